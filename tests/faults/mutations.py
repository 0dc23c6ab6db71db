"""Changes of bytes: single bits, bursts, and what fuzzers do to files."""

import random

INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]


def flip(content: bytes, rng: random.Random) -> bytes:
    """Return the content with one bit changed."""
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def burst(content: bytes, rng: random.Random) -> bytes:
    """Return the content with 2 to 512 bytes overwritten: by zeros, by ones, by noise, or by another part."""
    length = rng.choice([2, 4, 16, 64, 512])
    start = rng.randrange(max(1, len(content) - length))
    source = rng.randrange(max(1, len(content) - length))
    filler = rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length), content[source : source + length]])
    return content[:start] + filler[: len(content) - start] + content[start + length :]


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return the content changed in one to four places, of any kind: values, cuts, repetitions, insertions."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        kind = rng.randrange(7)
        place = rng.randrange(max(1, len(content)))
        length = rng.choice([1, 2, 4, 8, 40])
        if kind == 0:
            content = flip(content, rng) if content else content
        elif kind == 1:
            content = burst(content, rng)
        elif kind == 2:  # a size, an offset or a count becomes another
            size = rng.choice([1, 2, 4, 8])
            value = rng.choice(INTERESTING) % (1 << 8 * size)
            content = content[:place] + value.to_bytes(size, rng.choice(["little", "big"])) + content[place + size :]
        elif kind == 3:
            content = content[:place] + content[place + length :]
        elif kind == 4:
            content = content[:place] + content[place : place + length] + content[place:]
        elif kind == 5:
            content = content[:place] + rng.randbytes(length) + content[place:]
        else:
            content = content[:place] if rng.random() < 0.5 else content + content[:place]
    return content
