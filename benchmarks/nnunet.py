"""Lesson 7's crops by nnU-Net: same people, same split, same cores, 3, 10 and 30 minutes

    python benchmarks/nnunet.py FOLDER WORK --minutes 3 --out runs.jsonl

FOLDER holds the Decathlon's Task04, WORK gets nnU-Net's folders. Needs `pip install nnunetv2` in an
environment of its own. Writing the cases is tested (`medtut.nnunet`); **what calls nnU-Net was
never run**: it is written after the documentation of nnunetv2 2.8 and may need a correction. Its
own plans are used as they are. nnU-Net was made for a day on a GPU, and a table of minutes on a CPU
must say so beside its published results."""
import argparse
import json
import os
import resource
import subprocess
import time
from pathlib import Path

NUMBER, NAME = 4, 'Hippocampus'
DATASET = f'Dataset{NUMBER:03d}_{NAME}'

def split_table(folder):
    "The crops with lesson 7's split"
    from medtut.cases import find_cases
    from medtut.splits import split_by_patient
    table = find_cases(folder)
    table = table[table.seg.notna()].reset_index(drop=True)
    number = table.case.str.extract(r'(\d+)$')[0].astype(int)
    table['patient'] = (number + 1)//2
    table['split'] = split_by_patient(table, (.7, .05, .25), stratify=None, seed=0)
    return table

def folders(work):
    "nnU-Net's three folders, also in the environment, where it looks for them"
    places = {f'nnUNet_{kind}': work/kind for kind in ('raw', 'preprocessed', 'results')}
    for name, path in places.items():
        path.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(path)
    return places

def prepare(table, places):
    "Write the cases, let nnU-Net plan and preprocess them, and hand it the split"
    from medtut.nnunet import export_nnunet, splits_final
    preprocessed = places['nnUNet_preprocessed']/DATASET
    if not (places['nnUNet_raw']/DATASET).exists():
        export_nnunet(table, places['nnUNet_raw'], NUMBER, NAME)
        command = ['nnUNetv2_plan_and_preprocess', '-d', str(NUMBER), '-c', '3d_fullres']
        subprocess.run(command, check=True)
    splits_final(table, preprocessed/'splits_final.json')
    return preprocessed

def seconds_a_step(trainer, steps=3):
    "What a training step takes, from a few of them"
    trainer.initialize()
    trainer.on_train_start()
    start = time.perf_counter()
    for _ in range(steps): trainer.train_step(next(trainer.dataloader_train))
    return (time.perf_counter() - start)/steps

def make_trainer(preprocessed):
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    plans = json.loads((preprocessed/'nnUNetPlans.json').read_text())
    about = json.loads((preprocessed/'dataset.json').read_text())
    return nnUNetTrainer(plans, '3d_fullres', 0, about, device=torch.device('cpu'))

def train(preprocessed, minutes):
    "One epoch of as many steps as fit; the folder of the results"
    step = seconds_a_step(make_trainer(preprocessed))
    trainer = make_trainer(preprocessed)
    trainer.num_epochs, trainer.num_val_iterations_per_epoch = 1, 1
    trainer.num_iterations_per_epoch = max(1, int(60*minutes/step))
    trainer.run_training()
    trainer.perform_actual_validation()
    return Path(trainer.output_folder), trainer.num_iterations_per_epoch

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    parser.add_argument('work', type=Path)
    parser.add_argument('--minutes', type=float, default=3)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    import torch
    torch.set_num_threads(args.threads)
    table = split_table(args.folder)
    preprocessed = prepare(table, folders(args.work.absolute()))
    start = time.perf_counter()
    results, steps = train(preprocessed, args.minutes)
    summary = json.loads((results/'validation/summary.json').read_text())
    test = set(table.case[table.split == 'test'])
    cases = {}
    for entry in summary['metric_per_case']:
        case = Path(entry['prediction_file']).name.removesuffix('.nii.gz')
        if case in test: cases[case] = {k: m['Dice'] for k, m in entry['metrics'].items()}
    row = dict(minutes=args.minutes, steps=steps, seconds=round(time.perf_counter() - start),
               peak_kib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, cases=cases)
    print(json.dumps({k: v for k, v in row.items() if k != 'cases'}))
    if args.out:
        with args.out.open('a', encoding='utf-8') as f: f.write(json.dumps(row) + '\n')

if __name__ == '__main__': main()
