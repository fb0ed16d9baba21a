"""Lesson 7 many times: more and fewer crops, other seeds, both sides of a person apart, a GPU

    python benchmarks/hippocampus.py pack FOLDER cases.npz
    python benchmarks/hippocampus.py train cases.npz --size 50 --seed 1 --out runs.jsonl

`pack` reads the Decathlon's Task04, splits it as lesson 7 does and stores what the network gets.
`train` needs no more than that, numpy, scipy, torch, tqdm and safetensors: it trains, predicts the test
crops and appends one line of JSON with the Dice and volumes of each. Speeds of one machine mean
little on another."""
import argparse
import json
import time
from pathlib import Path

import numpy as np

PATCH = 32, 48, 32
BATCH = 4
STEPS = 428
RATE = 5e-3 # the highest of the one-cycle learning rate
FILTERS = 16, 32, 64, 64
CLASSES = {1: 'anterior', 2: 'posterior'}

def split_table(folder):
    "The crops with lesson 7's split"
    from medtut.cases import find_cases
    from medtut.splits import split_by_patient
    table = find_cases(folder)
    table = table[table.seg.notna()].reset_index(drop=True)
    number = table.case.str.extract(r'(\d+)$')[0].astype(int)
    # crops 2k - 1 and 2k are the two sides of a person: lesson 7 shows why
    table['patient'] = (number + 1)//2
    table['split'] = split_by_patient(table, (.7, .05, .25), stratify=None, seed=0)
    return table

def pack(folder, path):
    "Standardised crops, labels and split in one file"
    from medtut.cases import load_case
    table = split_table(folder)
    content = dict(case=table.case.to_numpy(str), patient=table.patient,
                   split=table.split.to_numpy(str))
    for i, row in table.iterrows():
        case = load_case(row)
        content[f'image{i}'], content[f'label{i}'] = prepared(case.image), case.label
    np.savez_compressed(path, **content)
    print(table.split.value_counts().to_string())

def prepared(image):
    from medtut.intensities import standardize
    return standardize(image, inside=None).astype(np.float16)

def read(path):
    "Cases (image, label), and the columns of their table"
    with np.load(path) as f:
        columns = {name: f[name] for name in ('case', 'patient', 'split')}
        cases = [(f[f'image{i}'].astype(np.float32), f[f'label{i}'])
                 for i in range(len(columns['case']))]
    return cases, columns

def chosen(columns, size, seed, leak):
    "Numbers of the crops to learn from, and of those to be judged"
    rng = np.random.default_rng(seed)
    people = rng.permutation(np.unique(columns['patient'][columns['split'] == 'train']))
    train = [i for p in people for i in np.flatnonzero(columns['patient'] == p)]
    train = train[:size]
    test = np.flatnonzero(columns['split'] == 'test').tolist()
    if not leak: return train, test
    # one side of each person of the test set takes the place of another crop in training
    patients = columns['patient'][test]
    pairs = [np.flatnonzero(columns['patient'] == p) for p in np.unique(patients)]
    leaked = [pair[leak - 1] for pair in pairs if len(pair) == 2]
    return train[len(leaked):] + leaked, [i for i in test if i not in leaked]

def turned_copy(x, y, rng):
    "Turned by up to 10 degrees about each axis, and up to 8 % larger or smaller"
    from scipy import ndimage as ndi
    from scipy.spatial.transform import Rotation
    turn = Rotation.from_euler('xyz', rng.uniform(-10, 10, 3), degrees=True)
    matrix = turn.as_matrix()/rng.uniform(.92, 1.08)
    middle = (np.array(y.shape) - 1)/2
    offset = middle - matrix @ middle # the middle stays where it is
    image = ndi.affine_transform(x[0], matrix, offset, order=1, mode='nearest')
    return image[None], ndi.affine_transform(y, matrix, offset, order=0)

def with_copies(cases, seed):
    "The crops, and two turned copies of each"
    rng = np.random.default_rng(seed)
    return cases + [turned_copy(*case, rng) for _ in range(2) for case in cases]

def train_unet(cases, steps, seed, device, precision='float32'):
    "A new network trained for `steps` steps, and the seconds it took"
    import torch

    from medtut.patches import PatchDataset
    from medtut.segmentation import dice_ce_loss
    from medtut.unet import UNet3D
    torch.manual_seed(seed)
    model = UNet3D(1, 1 + len(CLASSES), filters=FILTERS).to(device)
    model = model.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    patches = PatchDataset(with_copies(cases, seed), PATCH, n=BATCH*steps, seed=seed)
    loader = torch.utils.data.DataLoader(patches, BATCH, shuffle=True)
    start = time.perf_counter()
    coarse = torch.autocast(device, torch.bfloat16, enabled=precision == 'bfloat16')
    for x, y in loader:
        x = x.to(device, memory_format=torch.channels_last_3d)
        with coarse: out = model(x)
        dice_ce_loss(out.float(), y.to(device)).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    if device == 'cuda': torch.cuda.synchronize()
    return model, time.perf_counter() - start

def scores(label, prediction):
    "Dice and the volumes of truth and prediction, voxels, of each class"
    row = {}
    for k, name in CLASSES.items():
        truth, found = label == k, prediction == k
        both, sizes = np.sum(truth & found), truth.sum() + found.sum()
        row[name] = dict(dice=round(float(2*both/sizes), 5), true=int(truth.sum()),
                         predicted=int(found.sum()))
    return row

def judge(model, cases, names, chosen):
    "Scores of the crops whose numbers are chosen"
    from medtut.tiles import predict_volume
    rows = {}
    for i in chosen:
        image, label = cases[i]
        p = predict_volume(model, image, PATCH, progress=False)
        rows[str(names[i])] = scores(label, p.argmax(0))
    return rows

def train(args):
    import torch
    torch.set_num_threads(args.threads)
    cases, columns = read(args.cases)
    used, judged = chosen(columns, args.size, args.seed, args.leak)
    model, seconds = train_unet([cases[i] for i in used], args.steps, args.seed, args.device,
                                args.precision)
    start = time.perf_counter()
    rows = judge(model, cases, columns['case'], judged)
    result = dict(data=args.cases.stem, size=len(used), seed=args.seed, leak=args.leak,
                  steps=args.steps, threads=args.threads, device=args.device,
                  precision=args.precision,
                  torch=torch.__version__, train_seconds=round(seconds, 1),
                  test_seconds=round(time.perf_counter() - start, 1), cases=rows)
    if args.judge:
        cases, columns = read(args.judge)
        judged = np.flatnonzero(columns['split'] == 'test')
        result['others'] = judge(model, cases, columns['case'], judged)
    if args.weights:
        torch.save(model.state_dict(), args.weights)
    if args.out:
        with args.out.open('a', encoding='utf-8') as f:
            f.write(json.dumps(result) + '\n')
    means = {name: np.mean([row[name]['dice'] for row in rows.values()])
             for name in CLASSES.values()}
    print(f'{len(used)} crops, seed {args.seed}, leak {args.leak}, {args.steps} steps on '
          f'{args.device}: {seconds:.0f} s, '
          + ', '.join(f'{name} {mean:.4f}' for name, mean in means.items()), flush=True)

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    packing = commands.add_parser('pack')
    packing.add_argument('folder', type=Path)
    packing.add_argument('cases', type=Path)
    packing.set_defaults(run=lambda args: pack(args.folder, args.cases))
    training = commands.add_parser('train')
    training.add_argument('cases', type=Path)
    training.add_argument('--size', type=int, help='crops to learn from; without it: all')
    training.add_argument('--seed', type=int, default=0)
    training.add_argument('--steps', type=int, default=STEPS)
    training.add_argument('--leak', type=int, default=0, choices=[0, 1, 2],
                          help='put this side of each test person among the crops to learn from')
    training.add_argument('--threads', type=int, default=2)
    training.add_argument('--device', default='cpu')
    training.add_argument('--precision', choices=['float32', 'bfloat16'], default='float32',
                          help='of the training, by autocast; predictions are in float32')
    training.add_argument('--judge', type=Path, help='judge the test crops of this file too')
    training.add_argument('--weights', type=Path, help='file for the weights')
    training.add_argument('--out', type=Path, help='file to append a line of JSON to')
    training.set_defaults(run=train)
    args = parser.parse_args()
    args.run(args)

if __name__ == '__main__': main()
