"""Make `fashion_mnist_12k.xz`: 10,000 + 2,000 images of Fashion-MNIST, stratified, packed without loss.

Reads the four files of the original (Debian's package `dataset-fashion-mnist` installs them; so does anyone who fetches
them from Zalando's repository), checks them, and writes, beside this script, the packed file and its description:

    python -m bias_lab.data.embedded.make [FOLDER with the four .gz files]

Which images: in each class of each original split, those whose BLAKE2b hash of "fashion_mnist_12k SPLIT INDEX" is
smallest. They stay in the order of the original file. The packed file is plain LZMA of 12,000 label bytes and the
pixels (uint8, row by row), training images first: PNG's filters, a median predictor and a pixel-major layout before the
LZMA stage were all measured and made it 2-18 % larger, since these images are more texture than gradient.
"""

import gzip
import hashlib
import json
import lzma
import sys
from pathlib import Path

import numpy as np

from bias_lab.data.identity import content_hash, fingerprint

HERE = Path(__file__).parent
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
SPLITS = {"train": ("train", 1000), "test": ("t10k", 200)}  # ours → the original's prefix, images a class
SHA256 = {  # of the unpacked files: packers put names and times into a .gz
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def read(folder, name, header):
    """The bytes of one idx file after its header, checked."""
    data = gzip.decompress((folder / name).read_bytes())
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256[name]:
        raise SystemExit(f"{folder / name}, unpacked, has SHA-256 {found}, not {SHA256[name]}: not the published file")
    return np.frombuffer(data, np.uint8, offset=header)


def choose(labels, split, per_class):
    """Indices of the chosen images, ascending: per_class of each class, by hash."""
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
        "raw_sha256": hashlib.sha256(raw).hexdigest(),  # another LZMA version may pack otherwise; this must not change
        "fingerprint": fingerprint(triples),
    }
    (HERE / "fashion_mnist_12k.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    print(f"{len(packed):,} bytes, fingerprint {description['fingerprint']}")  # noqa: T201


if __name__ == "__main__":
    main()
