"""Damaged media and csv files, for the tests and the benchmark of what becomes of them."""

import numpy as np

MEDIA_DAMAGE = ("cut", "flipped", "zeroed", "head", "boxes", "noise", "empty", "joined")
TABLE_DAMAGE = ("blank lines", "doubled column", "short rows", "long rows", "quote", "doubled names", "bytes")
ENCODINGS = ("utf-8", "utf-8-sig", "gb18030", "utf-16")


def damaged_media(whole: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A whole media file with one kind of damage."""
    data = np.frombuffer(whole, np.uint8).copy()
    if kind == "cut":
        return data[: rng.integers(1, len(data))].tobytes()
    if kind == "flipped":
        places = rng.integers(0, len(data), max(1, int(len(data) * 10 ** rng.uniform(-5, -2))))
        data[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
    elif kind == "zeroed":
        start = rng.integers(0, len(data))
        data[start : start + rng.integers(1, len(data))] = 0
    elif kind == "head":
        data[: min(len(data), 512)] = rng.integers(0, 256, min(len(data), 512))
    elif kind == "boxes":  # sizes, durations and time scales of mp4's header boxes
        for name in (b"mvhd", b"mdhd", b"tkhd", b"stts", b"stsz", b"stco", b"avc1", b"hev1", b"elst"):
            at = whole.find(name)
            if at >= 0 and rng.random() < 0.5:
                place = at + 4 + int(rng.integers(0, 28))
                data[place : place + 4] = rng.choice([0, 127, 255], len(data[place : place + 4]))
    elif kind == "noise":
        data = rng.integers(0, 256, rng.integers(1, 5000)).astype(np.uint8)
    elif kind == "empty":
        data = data[:0]
    elif kind == "joined":
        return whole + data[: rng.integers(1, len(data))].tobytes()
    return data.tobytes()


def damaged_table(kind: str, encoding: str, rng: np.random.Generator) -> bytes:
    """A clips.csv of twelve rows with one kind of damage."""
    rows = [["name", "label", "split", "text"]]
    rows += [
        [f"n{i}", str(rng.choice(["x", "y"])), "", str(rng.choice(["你好", 'a "b", c', "", "é"]))] for i in range(12)
    ]
    newline = str(rng.choice(["\n", "\r\n"]))
    if kind == "blank lines":
        rows[3:3] = [[], [""], []]
    elif kind == "doubled column":
        rows[0][3] = str(rng.choice(["label", "name", "text"]))
    elif kind == "short rows":
        rows = [rows[0], *(row[: int(rng.integers(0, 4))] for row in rows[1:])]
    elif kind == "long rows":
        rows = [rows[0], *(row + ["more"] * int(rng.integers(0, 3)) for row in rows[1:])]
    elif kind == "doubled names":
        rows += rows[2:5]
    quoted = [['"' + cell.replace('"', '""') + '"' if set(cell) & set('",') else cell for cell in row] for row in rows]
    data = newline.join(map(",".join, quoted)).encode(encoding, "replace")
    if kind == "quote":
        data = data[:40] + b'"' + data[40:]
    elif kind == "bytes":
        places = rng.integers(0, len(data), 5)
        data = bytes(int(rng.integers(256)) if i in places else byte for i, byte in enumerate(data))
    return data
