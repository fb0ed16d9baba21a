"""Fold the cells that give an answer away, with their outputs: `python tools/fold.py`,
or those of some notebooks: `python tools/fold.py nbs/01_dicom.ipynb`

Each host has metadata of its own for it. JupyterLab hides source and outputs by `jupyter`, and
shows the outputs again once the cell is run; older front ends hide outputs by `collapsed`. Colab
hides the source by `cellView`. The site folds the whole cell, where of other cells with the
directive `code-fold` it folds the code alone."""
import sys
from pathlib import Path

from fastcore.nbio import read_nb, write_nb
from lessons import all_lessons

# `code-summary` of such a cell
GIVEAWAYS = 'Solution', 'Answer and usual mistakes', 'Result'
METADATA = dict(cellView='form', collapsed=True,
                jupyter=dict(outputs_hidden=True, source_hidden=True))

def gives_away(cell):
    if cell.cell_type != 'code': return False
    return cell.directives.get('code-summary', '').strip('"') in GIVEAWAYS

def unfolded(path):
    "Cells of the notebook at `path` that give an answer away and are not folded"
    return [cell.id for cell in read_nb(path).cells
            if gives_away(cell) and cell.metadata != METADATA]

def fold(path):
    "Fold them"
    nb = read_nb(path)
    for cell in nb.cells:
        if gives_away(cell): cell.metadata = dict(METADATA)
    write_nb(nb, path)

def main(args):
    paths = [Path(arg) for arg in args] or [lesson.path for lesson in all_lessons()]
    for path in paths:
        if unfolded(path): fold(path)

if __name__ == '__main__': main(sys.argv[1:])
