"""Every dataset by name, as plain data: class counts, sizes, licence and citation."""

from dataclasses import dataclass, replace

from bias_lab.errors import unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset by name. class_counts: training images of each class, which planning needs without torch."""

    name: str
    classes: int
    class_counts: tuple[int, ...]
    test_images: int
    image_size: int  # side in pixels, as published
    channels: int
    licence: str
    citation: str
    mean: tuple[float, ...] = ()  # of the training pool, per channel, in [0, 1]; empty: computed when decoded
    std: tuple[float, ...] = ()
    made_from: tuple[str, ...] = ()  # datasets whose images it contains, perhaps resized
    note: str = ""

    @property
    def pool(self) -> int:
        return sum(self.class_counts)


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="fashion_mnist_12k",
            classes=10,
            class_counts=(1000,) * 10,
            test_images=2000,
            image_size=28,
            channels=1,
            licence="MIT",
            citation="Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
            mean=(0.28617,),
            std=(0.352838,),
            made_from=("fashion_mnist",),
            note="embedded: 10,000 + 2,000 images of Fashion-MNIST, stratified",
        ),
        Dataset(
            name="fashion_mnist",
            classes=10,
            class_counts=(6000,) * 10,
            test_images=10_000,
            image_size=28,
            channels=1,
            licence="MIT",
            citation="Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
            mean=(0.286041,),
            std=(0.353024,),
        ),
        Dataset(
            name="mnist",
            classes=10,
            class_counts=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
            test_images=10_000,
            image_size=28,
            channels=1,
            licence="CC BY-SA 3.0",
            citation="LeCun, Bottou, Bengio, Haffner 1998, doi:10.1109/5.726791",
        ),
        Dataset(
            name="cifar10",
            classes=10,
            class_counts=(5000,) * 10,
            test_images=10_000,
            image_size=32,
            channels=3,
            licence="none stated; cite the report",
            citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        ),
        Dataset(
            name="cifar100",
            classes=100,
            class_counts=(500,) * 100,
            test_images=10_000,
            image_size=32,
            channels=3,
            licence="none stated; cite the report",
            citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        ),
        Dataset(
            name="svhn",
            classes=10,
            class_counts=(4948, 13_861, 10_585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
            test_images=26_032,
            image_size=32,
            channels=3,
            licence="non-commercial use",
            citation="Netzer et al. 2011, Reading Digits in Natural Images with Unsupervised Feature Learning",
        ),
        Dataset(
            name="stl10",
            classes=10,
            class_counts=(500,) * 10,
            test_images=8000,
            image_size=96,
            channels=3,
            licence="none stated; ImageNet's terms",
            citation="Coates, Ng, Lee 2011, An Analysis of Single-Layer Networks in Unsupervised Feature Learning",
            made_from=("imagenet",),
            note="and 100,000 images without labels, for pretraining",
        ),
        Dataset(
            name="eurosat",
            classes=10,
            class_counts=(2400, 2400, 2400, 2000, 2000, 1600, 2000, 2400, 2000, 2400),
            test_images=5400,
            image_size=64,
            channels=3,
            licence="MIT",
            citation="Helber et al. 2019, arXiv:1709.00029",
            note="no published split: 20 % of each class, by hash order, are the test split",
        ),
        Dataset(
            name="flowers102",
            classes=102,
            class_counts=(20,) * 102,
            test_images=6149,
            image_size=224,
            channels=3,
            licence="none stated; research use",
            citation="Nilsback, Zisserman 2008, doi:10.1109/ICVGIP.2008.47",
            note="pool: the training and validation splits together; sizes vary, resized to 224",
        ),
        Dataset(
            name="oxford_pet",
            classes=37,
            class_counts=tuple({7: 96, 11: 93, 12: 96, 22: 96, 30: 99}.get(breed, 100) for breed in range(37)),
            test_images=3669,
            image_size=224,
            channels=3,
            licence="CC BY-SA 4.0",
            citation="Parkhi, Vedaldi, Zisserman, Jawahar 2012, doi:10.1109/CVPR.2012.6248092",
            note="sizes vary, resized to 224",
        ),
        Dataset(
            name="tiny_imagenet",
            classes=200,
            class_counts=(500,) * 200,
            test_images=10_000,
            image_size=64,
            channels=3,
            licence="ImageNet's terms: non-commercial research",
            citation="Le, Yang 2015, Tiny ImageNet Visual Recognition Challenge",
            made_from=("imagenet",),
            note="test: the validation split, since the test split's labels were never published",
        ),
        Dataset(
            name="shapes",
            classes=4,
            class_counts=(2500,) * 4,
            test_images=2000,
            image_size=32,
            channels=1,
            licence="MIT",
            citation="bias_lab",
            note="drawn, with the cue known; factors: shapes:cue=conflict,position=free,band=low",
        ),
        Dataset(
            name="imagenette",
            classes=10,
            class_counts=(963, 955, 993, 858, 941, 956, 961, 931, 951, 960),
            test_images=3925,
            image_size=160,
            channels=3,
            licence="Apache-2.0; images: ImageNet's terms",
            citation="Howard 2019, github.com/fastai/imagenette",
            made_from=("imagenet",),
            note="second version, shorter side 160",
        ),
    )
}


SHAPES = {  # factor of the procedural dataset → its values, the first if none is given; drawn by data/procedural.py
    "cue": ("shape", "texture", "agree", "conflict", "local", "global"),
    "position": ("fixed", "free"),
    "band": ("all", "low", "high"),
}


def shapes(name: str) -> dict[str, str]:
    """The factors of `shapes` or `shapes:cue=texture,position=free`. Raises UserError for what is not among them."""
    factors = {factor: values[0] for factor, values in SHAPES.items()}
    for part in filter(None, name.partition(":")[2].split(",")):
        factor, _, value = part.partition("=")
        if factor not in SHAPES:
            raise unknown("factor of shapes", factor, SHAPES)
        if value not in SHAPES[factor]:
            raise unknown(f"{factor} of shapes", value, SHAPES[factor])
        factors[factor] = value
    return factors


def dataset(name: str) -> Dataset:
    """The row of a dataset's name; `shapes` may carry factors. Raises UserError with the nearest match."""
    if name.startswith("shapes:"):
        shapes(name)  # refuses what can't be drawn
        return replace(DATASETS["shapes"], name=name)
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS, remedy="a folder of class folders is given with --data PATH")
    return DATASETS[name]


def common_origin(target: str, source: str) -> str:
    """Return a dataset whose images both hold, as far as the catalogue knows; empty if it knows of none.

    Hashes cannot see an image after resizing, and `made_from` can (DESIGN 3.3). `imagenet` may be given as the source,
    for weights.
    """

    def origins(name: str) -> set[str]:
        return {name, *(DATASETS[name].made_from if name in DATASETS else ())}

    return next(iter(sorted(origins(target) & origins(source))), "")
