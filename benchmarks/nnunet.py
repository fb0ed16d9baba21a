"""Lesson 7's crops by nnU-Net, MONAI and medtut: same people, same split, same cores, same minutes

    python benchmarks/hippocampus.py pack FOLDER cases.npz
    python benchmarks/nnunet.py prepare FOLDER WORK
    python benchmarks/nnunet.py train nnunet cases.npz --work WORK --minutes 3 --out runs.jsonl
    python benchmarks/nnunet.py train monai cases.npz --minutes 3 --out runs.jsonl
    python benchmarks/nnunet.py train medtut cases.npz --minutes 3 --out runs.jsonl
    python benchmarks/nnunet.py table runs.jsonl

FOLDER holds the Decathlon's Task04, WORK gets nnU-Net's folders. Needs `pip install nnunetv2 monai`
in an environment of its own. nnU-Net's plans, augmentation and mirroring are its own; its thousand
epochs of 250 steps are cut to at most twenty that fill the minutes, so that its learning rate falls
as it was meant to. It was made for a day on a GPU: a table of minutes says how soon a result can be
had, not which is better when time does not count."""
import argparse
import json
import os
import resource
import subprocess
import time
from pathlib import Path

import hippocampus as lesson
import numpy as np
from _lines import lines_of

NUMBER, NAME = 4, 'Hippocampus'
DATASET = f'Dataset{NUMBER:03d}_{NAME}'
EPOCHS = 20 # nnU-Net lowers its learning rate once an epoch
OVERLAP = .5 # of neighbouring tiles, for all three

def folders(work):
    "nnU-Net's three folders, also in the environment, where it looks for them"
    places = {f'nnUNet_{kind}': work/kind for kind in ('raw', 'preprocessed', 'results')}
    for name, path in places.items():
        path.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(path)
    return places

def prepare(args):
    "Write the cases, let nnU-Net plan and preprocess them, and hand it the split"
    from medtut.nnunet import export_nnunet, splits_final
    places = folders(args.work.absolute())
    table = lesson.split_table(args.folder)
    if not (places['nnUNet_raw']/DATASET).exists():
        export_nnunet(table, places['nnUNet_raw'], NUMBER, NAME)
    command = ['nnUNetv2_plan_and_preprocess', '-d', str(NUMBER), '-c', '3d_fullres']
    subprocess.run(command, check=True)
    splits_final(table, places['nnUNet_preprocessed']/DATASET/'splits_final.json')

# Each of the three takes the cases, the minutes, a seed, a device and nnU-Net's folder, and
# returns a function from a standardised image (1, x, y, z) to its labels, and the steps it trained.

def steps_that_fit(minutes, start, step, tries=10):
    "Steps that fill what is left of the minutes since `start`, after a few to measure one"
    step()
    begin = time.perf_counter()
    for _ in range(tries): step()
    now = time.perf_counter()
    left = 60*minutes - (now - start)
    return max(1, int(left*tries/(now - begin)))

def lesson_steps_that_fit(cases, minutes, seed, device):
    "As `steps_that_fit`, for the lesson's function, which trains from first to last step"
    start = time.perf_counter()
    lesson.train_unet(cases, 5, seed, device) # the first steps are slower: torch plans its kernels
    begin = time.perf_counter()
    _, seconds = lesson.train_unet(cases, 20, seed, device)
    now = time.perf_counter()
    turning = now - begin - seconds # of copies, which is done once more
    left = 60*minutes - (now - start) - turning
    return max(1, int(20*left/seconds))

def train_medtut(cases, minutes, seed, device, work):
    from medtut.tiles import predict_volume
    steps = lesson_steps_that_fit(cases, minutes, seed, device)
    model, _ = lesson.train_unet(cases, steps, seed, device)
    def predict(image):
        return predict_volume(model, image, lesson.PATCH, progress=False).argmax(0)
    return predict, steps

def monai_loader(cases, seed):
    from monai.data import DataLoader, Dataset
    from monai.transforms import (
        Compose,
        RandAffined,
        RandCropByPosNegLabeld,
        RandScaleIntensityd,
        RandShiftIntensityd,
        SpatialPadd,
    )
    keys = 'image', 'label'
    turn, size = np.deg2rad(10), .08
    steps = Compose([
        SpatialPadd(keys, lesson.PATCH),
        RandAffined(keys, prob=.66, rotate_range=(turn,)*3, scale_range=(size,)*3,
                    mode=('bilinear', 'nearest'), padding_mode='border'),
        RandCropByPosNegLabeld(keys, 'label', lesson.PATCH, num_samples=lesson.BATCH),
        RandScaleIntensityd('image', .1, prob=.5),
        RandShiftIntensityd('image', .1, prob=.5)])
    steps.set_random_state(seed)
    content = [dict(image=x, label=y[None]) for x, y in cases]
    return DataLoader(Dataset(content, steps), 1, shuffle=True)

def endless(loader):
    while True: yield from loader

def train_monai(cases, minutes, seed, device, work):
    import torch
    from monai.inferers import sliding_window_inference
    from monai.losses import DiceCELoss
    from monai.networks.nets import BasicUNet
    start = time.perf_counter()
    torch.manual_seed(seed)
    model = BasicUNet(3, 1, 1 + len(lesson.CLASSES)).to(device)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    batches = endless(monai_loader(cases, seed))
    def step():
        batch = next(batches)
        loss(model(batch['image'].to(device)), batch['label'].to(device)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == 'cuda': torch.cuda.synchronize()
    n = steps_that_fit(minutes, start, step)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=n)
    for _ in range(n):
        step()
        schedule.step()
    model.eval()
    def predict(image):
        x = torch.from_numpy(image)[None].to(device)
        with torch.inference_mode():
            y = sliding_window_inference(x, lesson.PATCH, 4, model, OVERLAP, mode='gaussian')
        return y[0].argmax(0).cpu().numpy()
    return predict, n

def nnunet_trainer(work, device):
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    preprocessed = folders(work.absolute())['nnUNet_preprocessed']/DATASET
    plans = json.loads((preprocessed/'nnUNetPlans.json').read_text())
    plans['continue_training'] = False
    about = json.loads((preprocessed/'dataset.json').read_text())
    trainer = nnUNetTrainer(plans, '3d_fullres', 0, about, device=torch.device(device))
    trainer.disable_checkpointing = True
    return trainer

def train_nnunet(cases, minutes, seed, device, work):
    import torch
    start = time.perf_counter()
    torch.manual_seed(seed)
    measured = nnunet_trainer(work, device)
    measured.on_train_start()
    n = steps_that_fit(minutes, start, nnunet_step(measured), 3 if device == 'cpu' else 20)
    trainer = nnunet_trainer(work, device)
    # each epoch ends with a step of validation: at most one in ten steps
    trainer.num_epochs = max(1, min(EPOCHS, n//10))
    trainer.num_iterations_per_epoch = max(1, n//trainer.num_epochs)
    trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    steps = trainer.num_epochs*trainer.num_iterations_per_epoch
    return nnunet_predictor(trainer, device), steps

def nnunet_step(trainer):
    return lambda: trainer.train_step(next(trainer.dataloader_train))

def nnunet_predictor(trainer, device):
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    predictor = nnUNetPredictor(tile_step_size=1 - OVERLAP, device=torch.device(device),
                                allow_tqdm=False)
    trainer.set_deep_supervision_enabled(False)
    predictor.manual_initialization(
        trainer.network.eval(), trainer.plans_manager, trainer.configuration_manager,
        [trainer.network.state_dict()], trainer.dataset_json, 'nnUNetTrainer',
        trainer.inference_allowed_mirroring_axes)
    def predict(image):
        # nnU-Net's readers hand over the axes as z, y, x
        label = predictor.predict_single_npy_array(image.transpose(0, 3, 2, 1),
                                                   dict(spacing=[1., 1., 1.]))
        return label.transpose(2, 1, 0)
    return predict

TOOLS = dict(nnunet=train_nnunet, monai=train_monai, medtut=train_medtut)

# What its user writes of each, from cases to outlines of new ones. nnU-Net's users write no code
NNUNET_COMMANDS = (
    'nnUNetv2_convert_MSD_dataset -i Task04_Hippocampus',
    'nnUNetv2_plan_and_preprocess -d 4 -c 3d_fullres',
    'nnUNetv2_train 4 3d_fullres 0 -device cpu',
    'nnUNetv2_predict -i IN -o OUT -d 4 -c 3d_fullres -f 0 -device cpu')
WRITTEN = dict(monai=[monai_loader, endless, train_monai],
               medtut=[lesson.turned_copy, lesson.with_copies, lesson.train_unet, train_medtut])

def lines_written(tool):
    "How many lines the user of a tool writes"
    if tool == 'nnunet': return len(NNUNET_COMMANDS)
    return sum(map(lines_of, WRITTEN[tool]))

def peak_gib():
    "Largest memory of this process, and of the largest that it started"
    own, others = (resource.getrusage(who).ru_maxrss
                   for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(own/2**20, 2), round(others/2**20, 2)

def train(args):
    import torch
    torch.set_num_threads(args.threads)
    cases, columns = lesson.read(args.cases)
    used, judged = lesson.chosen(columns, None, args.seed, 0)
    start = time.perf_counter()
    predict, steps = TOOLS[args.tool]([cases[i] for i in used], args.minutes, args.seed,
                                      args.device, args.work)
    seconds, memory = time.perf_counter() - start, peak_gib()
    start = time.perf_counter()
    rows = {str(columns['case'][i]): lesson.scores(cases[i][1], predict(cases[i][0]))
            for i in judged}
    row = dict(tool=args.tool, minutes=args.minutes, seed=args.seed, device=args.device,
               threads=args.threads, steps=steps, train_seconds=round(seconds, 1),
               test_seconds=round(time.perf_counter() - start, 1), peak_gib=memory,
               lines=lines_written(args.tool), torch=torch.__version__, cases=rows)
    print(json.dumps({k: v for k, v in row.items() if k != 'cases'}), flush=True)
    if args.out:
        with args.out.open('a', encoding='utf-8') as f: f.write(json.dumps(row) + '\n')

def table(args):
    "The runs of a file, one a line, with intervals over people"
    from medtut.few_patients import mean_interval
    for line in args.runs.read_text(encoding='utf-8').splitlines():
        run = json.loads(line)
        people = [(int(case[-3:]) + 1)//2 for case in run['cases']]
        parts = []
        for part in lesson.CLASSES.values():
            scores = [row[part]['dice'] for row in run['cases'].values()]
            parts.append(f'{part} {mean_interval(scores, people, bounds=(0, 1))}')
        print(run['tool'], run['device'], f'{run["minutes"]:g} min', f'{run["steps"]} steps',
              *parts, f'{max(run["peak_gib"])} GiB', sep=' | ')

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    preparing = commands.add_parser('prepare')
    preparing.add_argument('folder', type=Path)
    preparing.add_argument('work', type=Path)
    preparing.set_defaults(run=prepare)
    training = commands.add_parser('train')
    training.add_argument('tool', choices=list(TOOLS))
    training.add_argument('cases', type=Path)
    training.add_argument('--work', type=Path, help="nnU-Net's folders, made by `prepare`")
    training.add_argument('--minutes', type=float, default=3)
    training.add_argument('--seed', type=int, default=0)
    training.add_argument('--threads', type=int, default=2)
    training.add_argument('--device', default='cpu')
    training.add_argument('--out', type=Path, help='file to append a line of JSON to')
    training.set_defaults(run=train)
    showing = commands.add_parser('table')
    showing.add_argument('runs', type=Path)
    showing.set_defaults(run=table)
    args = parser.parse_args()
    args.run(args)

if __name__ == '__main__': main()
