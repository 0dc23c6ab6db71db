"""What the Hessian is for: each application is a chapter of its own."""
