"""The official downloads of the field's data sets."""

from dataclasses import replace

from ..cityscapes import CityscapesUHRDataset
from ..crag import CRAGDataset
from ..deepglobe import DeepGlobeDataset
from ..fbp import FiveBillionPixelsDataset
from ..gid import GID5Dataset, GID15Dataset
from ..inria import InriaDataset
from ..isic import ISICDataset
from ..isprs import PotsdamUHRDataset, VaihingenUHRDataset
from ..loveda import LoveDAUHRDataset
from ..uavid import UAVidDataset
from ..udd import UDD6Dataset
from ..uhr_dataset import UHRDataset
from ..urur import URURDataset
from ..vdd import VDDDataset
from .decoding import IGNORE, Colours, Values
from .spec import DataSetSpec


def _colours(dataset: type[UHRDataset], **options: object) -> Colours:
    """Decode the colours of a data set's palette."""
    palette = dataset.METAINFO['palette']
    return Colours(tuple(map(tuple, palette)), **options)


def _ids(count: int, unlabelled: int | None = None) -> Values:
    """Decode ids in a row; those after an unlabelled 0 move down by one."""
    if unlabelled is None:
        return Values(tuple((i, i) for i in range(count)))
    table = [(i + 1, i) for i in range(count)]
    return Values(((unlabelled, IGNORE), *table))


# Official ids of Cityscapes' evaluated classes, in the order of train ids.
_CITYSCAPES = (
    *(7, 8, 11, 12, 13, 17, 19, 20, 21, 22),
    *(23, 24, 25, 26, 27, 28, 31, 32, 33),
)
# Tiles whose labels were public during the contest, as stock splits them.
_POTSDAM_TRAIN = (
    *('2_10', '2_11', '2_12', '3_10', '3_11', '3_12', '4_10', '4_11'),
    *('4_12', '5_10', '5_11', '5_12', '6_7', '6_8', '6_9', '6_10'),
    *('6_11', '6_12', '7_7', '7_8', '7_9', '7_10', '7_11', '7_12'),
)
_POTSDAM_VAL = (
    *('2_13', '2_14', '3_13', '3_14', '4_13', '4_14', '4_15'),
    *('5_13', '5_14', '5_15', '6_13', '6_14', '6_15', '7_13'),
)
_VAIHINGEN_TRAIN = (
    *(1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37),
)
_VAIHINGEN_VAL = (
    *(2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38),
)

_DEEPGLOBE = DataSetSpec(
    name='deepglobe',
    title='DeepGlobe land cover',
    layout='land-train/{id}_sat.jpg, {id}_mask.png (RGB); also train/',
    dataset=DeepGlobeDataset,
    images=r'/(?P<id>\d+)_sat\.jpg$',
    labels=r'/(?P<id>\d+)_mask\.png$',
    decoder=_colours(DeepGlobeDataset, threshold=128),
    image_out='img_dir/{scene}',
    label_out='ann_dir/{scene}',
    sizes=((2448, 2448),),
    list_md5=dict(
        train='66a011962a88572ce77a3a35a6927f50',
        val='241a5bc067b07283b69f25ea55bbb86f',
        test='19f19d9bf03d073e52d72e83ee00594e',
    ),
)
_INRIA = DataSetSpec(
    name='inria',
    title='Inria aerial image labeling',
    layout='AerialImageDataset/train/{images,gt}/{city}{number}.tif '
    '(gt: 0 and 255)',
    dataset=InriaDataset,
    images=r'/train/images/(?P<id>[a-z-]+\d+)\.tif$',
    labels=r'/train/gt/(?P<id>[a-z-]+\d+)\.tif$',
    decoder=Values(((0, 0), (255, 1))),
    image_out='img_dir/{scene}',
    label_out='ann_dir/{scene}',
    sizes=((5000, 5000),),
    list_md5=dict(
        train='2c52ef3e71b63ef1b49151dee9a3611a',
        val='8a8870d1031fa997de481e23540333a6',
        test='44674d2ebbc81747e7ef72194b30892f',
    ),
)
_CITY = DataSetSpec(
    name='cityscapes',
    title='Cityscapes',
    layout='leftImg8bit/{train,val}/{city}/*_leftImg8bit.png, '
    'gtFine/{train,val}/{city}/*_gtFine_labelIds.png',
    dataset=CityscapesUHRDataset,
    images=r'/leftImg8bit/(?P<split>train|val)/(?P<city>[^/]+)/'
    r'(?P<id>[^/]+)_leftImg8bit\.png$',
    labels=r'/gtFine/(?P<split>train|val)/(?P<city>[^/]+)/'
    r'(?P<id>[^/]+)_gtFine_labelIds\.png$',
    decoder=Values(
        tuple(
            (i, _CITYSCAPES.index(i) if i in _CITYSCAPES else IGNORE)
            for i in range(34)
        )
    ),
    scene='{city}/{id}',
    image_out='leftImg8bit/{split}/{scene}_leftImg8bit',
    label_out='gtFine/{split}/{scene}_gtFine_labelTrainIds',
    image_suffix='.png',
    label_suffix='.png',
    counts=dict(train=2975, val=500),
    sizes=((1024, 2048),),
)
_URUR = DataSetSpec(
    name='urur',
    title='URUR',
    layout='{train,val,test}/{image,label}/*.png (label: RGB)',
    dataset=URURDataset,
    images=r'/(?P<split>train|val|test)/image/(?P<id>[^/]+)\.(png|jpg)$',
    labels=r'/(?P<split>train|val|test)/label/(?P<id>[^/]+)\.png$',
    decoder=_colours(URURDataset),
    counts=dict(train=2157, val=280, test=571),
    certain=False,
)
_FBP = DataSetSpec(
    name='fbp',
    title='Five-Billion-Pixels, 16-bit images',
    layout='Image_16bit_BGRNir/GF2_*.tiff, '
    'Annotation__index/GF2_*_24label.png (0-24)',
    dataset=FiveBillionPixelsDataset,
    images=r'/Image__?16bit_BGRNir/(?P<id>[^/]+)\.tiff?$',
    labels=r'/Annotation__?index/(?P<id>[^/]+)_24label\.png$',
    decoder=_ids(24, unlabelled=0),
    image_out='img_dir/{scene}',
    label_out='ann_dir/{scene}',
    counts=dict(all=150),
)
_FBP_8BIT = replace(
    _FBP,
    name='fbp-8bit',
    title='Five-Billion-Pixels, 8-bit images',
    layout='Image__8bit_NirRGB/GF2_*.tif, '
    'Annotation__index/GF2_*_24label.png (0-24)',
    images=r'/Image__?8bit_NirRGB/(?P<id>[^/]+)\.tiff?$',
)
_GID5 = DataSetSpec(
    name='gid5',
    title='GID, 5 classes',
    layout='image_RGB/GF2_*.tif, label_5classes/GF2_*_label.tif (RGB)',
    dataset=GID5Dataset,
    images=r'/image_RGB/(?P<id>[^/]+)\.tiff?$',
    labels=r'/label_5classes/(?P<id>[^/]+)_label\.tiff?$',
    decoder=_colours(GID5Dataset, ignored=((0, 0, 0),)),
    image_out='img_dir/{scene}',
    label_out='ann_dir/{scene}',
    counts=dict(all=150),
)
_GID15 = DataSetSpec(
    name='gid15',
    title='GID, 15 classes',
    layout='img_dir/{train,val}/GF2_*.tif, '
    'ann_dir/{train,val}/GF2_*_15label.png (0-15)',
    dataset=GID15Dataset,
    images=r'/img_dir/(?P<split>train|val)/(?P<id>[^/]+)\.tiff?$',
    labels=r'/ann_dir/(?P<split>train|val)/(?P<id>[^/]+)_15label\.png$',
    decoder=_ids(15, unlabelled=0),
)
_UAVID = DataSetSpec(
    name='uavid',
    title='UAVid',
    layout='uavid_{train,val}/seq{N}/{Images,Labels}/{number}.png '
    '(Labels: RGB)',
    dataset=UAVidDataset,
    images=r'[/_](?P<split>train|val)/(?P<seq>seq\d+)/Images/(?P<id>\d+)\.png$',
    labels=r'[/_](?P<split>train|val)/(?P<seq>seq\d+)/Labels/(?P<id>\d+)\.png$',
    decoder=_colours(UAVidDataset),
    scene='{seq}_{id}',
    counts=dict(train=200, val=70),
    sizes=((2160, 3840), (2160, 4096)),
    certain=False,
)
_UDD6 = DataSetSpec(
    name='udd6',
    title='UDD-6, Urban Drone Dataset',
    layout='{train,val}/{src,gt}: src/*.JPG, gt/*.png (0-5)',
    dataset=UDD6Dataset,
    images=r'/(?P<split>train|val)/src/(?P<id>[^/]+)\.(jpe?g|png)$',
    labels=r'/(?P<split>train|val)/gt/(?P<id>[^/]+)\.png$',
    decoder=_ids(6),
)
_VDD = DataSetSpec(
    name='vdd',
    title='VDD, Varied Drone Dataset',
    layout='{train,val,test}/{src,gt}: src/*.JPG, gt/*.png (0-6)',
    dataset=VDDDataset,
    images=r'/(?P<split>train|val|test)/src/(?P<id>[^/]+)\.(jpe?g|png)$',
    labels=r'/(?P<split>train|val|test)/gt/(?P<id>[^/]+)\.png$',
    decoder=_ids(7),
    counts=dict(all=400),
)
_ISIC = DataSetSpec(
    name='isic',
    title='ISIC 2018, task 1: lesion boundaries',
    layout='ISIC2018_Task1-2_{Training,Validation,Test}_Input/ISIC_*.jpg, '
    'ISIC2018_Task1_{...}_GroundTruth/ISIC_*_segmentation.png (0 and 255)',
    dataset=ISICDataset,
    images=r'Task1-2_(?P<split>Training|Validation|Test)_Input.*/'
    r'(?P<id>ISIC_\d+)\.jpg$',
    labels=r'Task1_(?P<split>Training|Validation|Test)_GroundTruth.*/'
    r'(?P<id>ISIC_\d+)_segmentation\.png$',
    decoder=Values(((0, 0), (255, 1))),
    split_names=dict(training='train', validation='val'),
)
_CRAG = DataSetSpec(
    name='crag',
    title='CRAG, colorectal adenocarcinoma glands',
    layout='{train,test}/{Images,Annotation}/*.png; also valid/ for test/',
    dataset=CRAGDataset,
    images=r'/(?P<split>train|valid|test)/Images/(?P<id>[^/]+)\.png$',
    labels=r'/(?P<split>train|valid|test)/Annotations?/(?P<id>[^/]+)\.png$',
    decoder=Values(((0, 0),), rest=1),
    split_names=dict(valid='test'),
    counts=dict(train=173, test=40),
)
_LOVEDA = DataSetSpec(
    name='loveda',
    title='LoveDA',
    layout='{Train,Val}/{Rural,Urban}/{images_png,masks_png}/*.png '
    '(masks: 0-7)',
    dataset=LoveDAUHRDataset,
    images=r'/(?P<split>Train|Val)/(Rural|Urban)/images_png/'
    r'(?P<id>\d+)\.png$',
    labels=r'/(?P<split>Train|Val)/(Rural|Urban)/masks_png/(?P<id>\d+)\.png$',
    decoder=_ids(7, unlabelled=0),
    image_suffix='.png',
)
_POTSDAM = DataSetSpec(
    name='potsdam',
    title='ISPRS Potsdam, full labels',
    layout='2_Ortho_RGB/top_potsdam_*_RGB.tif, '
    '5_Labels_all/top_potsdam_*_label.tif (RGB)',
    dataset=PotsdamUHRDataset,
    images=r'/top_potsdam_(?P<id>\d+_\d+)_RGB\.tif$',
    labels=r'/top_potsdam_(?P<id>\d+_\d+)_label\.tif$',
    # Some tiles have noise in their colours.
    decoder=_colours(PotsdamUHRDataset, threshold=128),
    split_table={
        **dict.fromkeys(_POTSDAM_TRAIN, 'train'),
        **dict.fromkeys(_POTSDAM_VAL, 'val'),
    },
    counts=dict(train=24, val=14),
    sizes=((6000, 6000),),
)
_POTSDAM_ERODED = replace(
    _POTSDAM,
    name='potsdam-eroded',
    title='ISPRS Potsdam, boundaries ignored',
    layout='2_Ortho_RGB/top_potsdam_*_RGB.tif, '
    '5_Labels_all_noBoundary/top_potsdam_*_label_noBoundary.tif (RGB)',
    labels=r'/top_potsdam_(?P<id>\d+_\d+)_label_noBoundary\.tif$',
    decoder=_colours(PotsdamUHRDataset, threshold=128, ignored=((0, 0, 0),)),
)
_VAIHINGEN = DataSetSpec(
    name='vaihingen',
    title='ISPRS Vaihingen, full labels',
    layout='top/top_mosaic_09cm_area*.tif, gts_for_participants/ or '
    '*ground_truth_COMPLETE/ top_mosaic_09cm_area*.tif (RGB)',
    dataset=VaihingenUHRDataset,
    images=r'/top/top_mosaic_09cm_area(?P<id>\d+)\.tif$',
    labels=r'/[^/]*(gts_for_participants|ground_truth_COMPLETE)/'
    r'top_mosaic_09cm_area(?P<id>\d+)\.tif$',
    decoder=_colours(VaihingenUHRDataset, threshold=128),
    scene='area{id}',
    split_table={
        **{f'area{i}': 'train' for i in _VAIHINGEN_TRAIN},
        **{f'area{i}': 'val' for i in _VAIHINGEN_VAL},
    },
    counts=dict(train=16, val=17),
)
_VAIHINGEN_ERODED = replace(
    _VAIHINGEN,
    name='vaihingen-eroded',
    title='ISPRS Vaihingen, boundaries ignored',
    layout='top/top_mosaic_09cm_area*.tif, '
    '*eroded*/top_mosaic_09cm_area*_noBoundary.tif (RGB)',
    labels=r'/top_mosaic_09cm_area(?P<id>\d+)_noBoundary\.tif$',
    decoder=_colours(VaihingenUHRDataset, threshold=128, ignored=((0, 0, 0),)),
)

DATA_SETS: dict[str, DataSetSpec] = {
    spec.name: spec
    for spec in (
        *(_DEEPGLOBE, _INRIA, _CITY, _URUR, _FBP, _FBP_8BIT, _GID5, _GID15),
        *(_UAVID, _UDD6, _VDD, _ISIC, _CRAG, _LOVEDA),
        *(_POTSDAM, _POTSDAM_ERODED, _VAIHINGEN, _VAIHINGEN_ERODED),
    )
}
"""Name on the command line -> description."""
