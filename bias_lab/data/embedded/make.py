"""Make `fashion_mnist_12k.xz`: 10,000 + 2,000 images of Fashion-MNIST, stratified, packed without loss.

The script reads the four files of the original, which Debian's package `dataset-fashion-mnist` installs and Zalando's
repository holds. It checks them and writes the packed file and its description next to itself:

    python -m bias_lab.data.embedded.make [FOLDER with the four .gz files]

In each class of each original split, the images whose BLAKE2b hash of "fashion_mnist_12k SPLIT INDEX" is smallest are
taken, in the order of the original file. The packed file is the LZMA of 12,000 label bytes and the pixels (uint8, row
by row), training images first. PNG's filters, a median predictor and a pixel-major layout before the LZMA stage made it
2 to 18 % larger, since these images have more texture than gradients.
"""

import gzip
import hashlib
import json
import lzma
import sys
from pathlib import Path

import numpy as np

from bias_lab.catalogue import DATASETS
from bias_lab.data.identity import content_hash, fingerprint

HERE = Path(__file__).parent
PUBLISHED = DATASETS["fashion_mnist"]
DEBIAN = Path(PUBLISHED.places[-1])
CLASSES = PUBLISHED.class_names
SPLITS = {"train": ("train", 1000), "test": ("t10k", 200)}  # ours → the original's prefix, images a class
SHA256 = {f"{name}.gz": value for name, value in PUBLISHED.sha256.items()}  # of the unpacked files


def read(folder, name, header):
    """Return the bytes of one idx file after its header. Exits if it is not the published file."""
    data = gzip.decompress((folder / name).read_bytes())
    computed = hashlib.sha256(data).hexdigest()
    if computed != SHA256[name]:
        raise SystemExit(f"{folder / name} is not the published file: its SHA-256 is {computed}, not {SHA256[name]}")
    return np.frombuffer(data, np.uint8, offset=header)


def choose(labels, split, per_class):
    """Return the indices of the chosen images in ascending order: `per_class` of each class, by hash."""
    texts = (f"fashion_mnist_12k {split} {index}" for index in range(len(labels)))
    keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    chosen = [sorted(np.flatnonzero(labels == c), key=keys.__getitem__)[:per_class] for c in range(len(CLASSES))]
    return np.sort(np.concatenate(chosen))


def main():
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else DEBIAN
    images, labels, triples = [], [], []
    for split, (prefix, per_class) in SPLITS.items():
        pixels = read(source, f"{prefix}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
        classes = read(source, f"{prefix}-labels-idx1-ubyte.gz", 8)
        chosen = choose(classes, split, per_class)
        images.append(pixels[chosen])
        labels.append(classes[chosen])
        triples += [(split, CLASSES[c], content_hash(x)) for x, c in zip(images[-1], labels[-1], strict=True)]
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    raw = np.concatenate(labels).tobytes() + np.concatenate(images).tobytes()
    packed = lzma.compress(raw, check=lzma.CHECK_SHA256, filters=filters)
    (HERE / "fashion_mnist_12k.xz").write_bytes(packed)
    description = {
        "name": "fashion_mnist_12k",
        "what": "10,000 training and 2,000 test images of Fashion-MNIST, 28 x 28, one channel, stratified",
        "source": "https://github.com/zalandoresearch/fashion-mnist (Debian: dataset-fashion-mnist)",
        "source_sha256": SHA256,
        "licence": "MIT, Copyright 2017 Zalando SE (LICENSE)",
        "citation": "Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
        "classes": list(CLASSES),
        "images": {split: len(chosen) for split, chosen in zip(SPLITS, labels, strict=True)},
        "sha256": hashlib.sha256(packed).hexdigest(),
        "raw_sha256": hashlib.sha256(
            raw
        ).hexdigest(),  # must not change, while another version of LZMA may pack differently
        "fingerprint": fingerprint(triples),
    }
    (HERE / "fashion_mnist_12k.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    print(f"{len(packed):,} bytes, fingerprint {description['fingerprint']}")  # noqa: T201


if __name__ == "__main__":
    main()
