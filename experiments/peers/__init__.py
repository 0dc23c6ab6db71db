"""The tools that are measured side by side, each in a process of its own: one module per way of computing."""
