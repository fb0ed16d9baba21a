"""A course in deep learning for medical images, and the tools that it builds.

Lessons:
  dicom             1: read files of any scanner, show them correctly, list a folder as a table
  slices            2: a breast MRI collection as labelled slices
  chest             3: train on chest films, choose a threshold, calibrate
  cam               4: where a classifier found its answer
  grading           5: four volumes of a brain, and a grade for each patient
  segmentation      6: train a 3D U-Net, predict whole scans without seams; its losses

Tools:
  cli               the package from a shell
  cli_folders       its commands for folders of DICOM
  cli_data          its commands for data sets
  cli_results       its outlines as DICOM, from an archive and to one
  cli_outlines      its commands that outline scans and judge outlines
  show              pictures with window and unit, in grids
  overlays          masks, classes and heat maps on a picture
  heatmaps          heat maps at the size of the image, and where they point
  moving            sliders and animations
  show_volumes      volumes in three planes and as a film
  viewer            volumes to scroll through
  volumes           load series, turn and resample without losing where voxels lie
  nifti             read and write NIfTI files
  cases             cases of BraTS, the Decathlon, nnU-Net or one's own, read on one grid
  brain_cases       which files a case of the first two has
  pairs             which mask belongs to which image, by their names
  outlines          masks of ITK-SNAP and 3D Slicer, each voxel in its place
  brain_sets        how these two name files, sequences and labels
  intensities       numbers without a unit on one scale
  preprocessing     what happens to a scan before a network sees it, on record
  patches           boxes to train on, each with enough tumour equally likely
  unet              a 3D U-Net, and its file with a model card
  tiles             a volume predicted tile by tile, without seams
  predict           from a network and a list of files to label files
  nnunet            cases as nnU-Net wants its raw data
  evaluate          label files against the true ones: scores, and their summary
  metrics           how good is it: sensitivity, AUC
  intervals         how sure are we: the bootstrap by patient
  few_patients      intervals that hold for few patients: shares, means, AUCs, predictive values
  curves            ROC and reliability of one or several models, drawn with intervals
  comparing         two models on the same cases: higher, lower or undecided
  masks             how well outlines agree: Dice, distances, a report
  results           masks as DICOM segmentations, and all that is written about a series
  segments          masks of DICOM segmentations, of any program, on a grid
  reports           volumes and diameters as structured reports, and such reports as tables
  captures          slices with masks painted on them, for archives that show no segmentation
  sources           the series that results are made from: slices, headers, grid
  summaries         many reports in one table, in which a missed structure counts
  splits            tables split so that no patient is on both sides
  pictures          an image as it should look, and all of a folder as PNG
  pngs              labelled slices as PNG files, and a reason for each that is missing
  conversion        every series of a folder, as a table and as NIfTI
  pseudonyms        copies without names of a whole folder
  identity          remove what identifies a patient
  burned_in         why to look at a picture before it is shared
  series            which slices make a volume
  stacks            slices in order, and where their voxels lie
  planes            where a slice lies in the patient
  labels            what else tells it from other slices
  films             a radiograph of any format as eight bits of grey
  film_tables       a folder of films and a table of patients and classes, checked
  film_files        which file of the folder a row of it means
  film_models       own films into batches, a log of runs, a model with its card, its answers
  exercises         an answer typed into a lesson is right, or wrong with a reason
  answers           what may be typed, and how it is compared with the solution
  reasons           which of the usual mistakes explains a wrong answer
  pacs              find series in a hospital's archive, fetch them, store results
  doctor            why a training does not learn: the usual causes, looked for
  weights           a model in a file, with what one must know to use it

Data:
  datasets          five sets, real or made of phantoms, behind one call
  archives          what the real sets are, and their terms
  hosts             how each real set is fetched
  download          fetch files, resume, check
  phantoms.brain    four MR sequences of a head with a glioma
  phantoms.brain_files      such heads in the files of two sample sets
  phantoms.brain_anatomy    its head, an average one made into a person
  phantoms.brain_tumour     its tumour, drawn and grown
  phantoms.breast   breast MRI with a lesion
  phantoms.breast_anatomy  who is drawn, and the shape of chest and breasts
  phantoms.breast_gland    ducts, glands and a lesion
  phantoms.breast_chest    what lies behind them
  phantoms.breast_scan     what the tissues send and a scanner makes of it
  phantoms.chest    chest films with and without a pneumothorax
  phantoms.chest_files     such films in the files of a sample set
  phantoms.chest_patient   the numbers that make a patient and a film
  phantoms.chest_anatomy   how much lung and tissue each ray passes through
  phantoms.chest_shadows   bones, airways, devices, folds of skin
  phantoms.chest_vessels   vessels, and a lung that collapses
  phantoms.hippocampus     a bent structure in two parts, in a small crop
  phantoms.marks    what tells a phantom's file from a patient's

Plumbing:
  headers           the elements of a DICOM file, wherever they stand
  layout            what a decoder must know of an image
  stored_bits       which bits of a pixel are its number
  decoding          stored pixel values, whatever their compression
  uptake            what makes uptake of a PET image: dose, weight, decay, a vendor's factors
  units             what stored values mean: Hounsfield units, doses, uptake
  orientation       how an image lies in the patient
  display           an image in the window that its file asks for
  summary           what a table can hold of one file
  profile           what the basic profile of de-identification says of each element
  fragments         which part of compressed pixel data is which frame
  codestreams       compressed frames without what no decoder reads
  hidden_data       pixel data without what hides in it
  coding            names of what is outlined, in the codes that DICOM asks for
  errors            one kind of error for whatever is wrong with a file
  tables            tables from outside, read without trust
  rle               run-length codes of masks
  folders           what lies in a folder, and what became of it
  cli_base          what all commands share: options, tables
  pacs_access       where an archive is, who asks, and what it may not do
  pacs_web          an archive over DICOMweb
  pacs_dimse        an archive over DICOM's own protocol
  pacs_start        an archive to try things on: Orthanc, or a stand-in
  pacs_stand_in     a stand-in for an archive
  batch             many files made of many, and a run that goes on
  files             files that appear when they are whole
  window            grey values of a window
  extras            one sentence where a package is missing
  wording           numbers and names in the words of a message
  checks            voxel sizes and labels checked in one place
  modes             a model run as for evaluation, and left as found
"""

__version__ = "0.1.0"
