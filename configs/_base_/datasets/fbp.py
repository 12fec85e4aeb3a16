# Papers split the scenes differently: give the converter the lists of yours.
# Files hold blue, green, red, infrared; value_range is a guess for 10 bits: the
# converter reports what yours hold.
dataset_type = 'mmseg_uhr.FiveBillionPixelsDataset'
data_root = 'data/fbp'
crop_size = (1024, 1024)
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster', bands=(3, 2, 1), value_range=(0, 1023)),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(
        type='mmseg_uhr.RandomWindow', crop_size=crop_size, class_balanced=0.5
    ),
    dict(type='mmseg_uhr.ReadViews'),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='PhotoMetricDistortion'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
test_pipeline = [
    dict(type='mmseg_uhr.LoadRaster', bands=(3, 2, 1), value_range=(0, 1023)),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='splits/train.txt',
        data_prefix=dict(img_path='img_dir', seg_map_path='ann_dir'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='splits/val.txt',
        data_prefix=dict(img_path='img_dir', seg_map_path='ann_dir'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='splits/test.txt',
        data_prefix=dict(img_path='img_dir', seg_map_path='ann_dir'),
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(
    type='mmseg_uhr.UHRIoUMetric',
    iou_metrics=['mIoU', 'mFscore'],
    protocol='fbp-24',
)
test_evaluator = val_evaluator
