"""Help texts and argument parsers of the commands; imports nothing heavy."""

import argparse
from textwrap import dedent

from cardiotwin._resources import LABEL_TABLES, label_tables, resource

_RAW = argparse.RawDescriptionHelpFormatter

_SUMMARY = {
    "simulate": "solve a beat; write its activation map, 12-lead ECG, film and report",
    "calibrate": "fit root nodes and velocities to a recorded QRS complex: ecg=FILE twin=FOLDER",
    "tune": "find conductivities that give the wanted velocity on the mesh in use",
}

_OVERVIEW = """\
cardiotwin: from a heart mesh to a beat, its activation map and its 12-lead ECG

usage: cardiotwin COMMAND [options] [key=value ...]

commands
  simulate   {simulate}
  calibrate  {calibrate}
  tune       {tune}
  cell       a single cell: beat, limit cycle, restitution, drugs, populations
  mesh       make a heart of an image of labels, or of a closed surface
  twin       a folder with a heart, its fibres, coordinates and electrodes
  ecg        read, check, measure and draw a recorded or simulated ECG
  info       say what a mesh file holds, its quality, and what it lacks
  doctor     say what works on this machine

examples
  cardiotwin simulate                              one beat of an idealised human heart
  cardiotwin simulate experiment=rodero            ventricles of a real heart (CARDIOTWIN_DATA)
  cardiotwin simulate experiment=atria             its atria, with fibres and a P wave
  cardiotwin simulate mesh.edge_length='2 mm'      plain numbers are in the documented unit
  cardiotwin simulate --keys                       every key, with its unit and value
  cardiotwin simulate -m mesh.edge_length=1.5,2    one job for each value
  cardiotwin cell ten_tusscher_2006 --type epi     one cell's beat, currents and biomarkers
  cardiotwin mesh labels.nii.gz -o heart.vtu       tetrahedra with named surfaces, for mesh=file
  cardiotwin twin heart.vtu -o patient             fibres, coordinates, electrodes, checksums
  cardiotwin simulate experiment=twin mesh.path=patient
  cardiotwin calibrate ecg=record.hea twin=patient leads=torso
  cardiotwin ecg record.hea --sex female           its flaws, measurements, sheet and loops
  cardiotwin info heart.vtu --unit mm
  cardiotwin doctor

units are mm, ms, mV, uA, uF, mS; a conductivity in mS/mm is the same number in S/m.

options
  -h, --help   this text; cardiotwin COMMAND --help says more about a command
  --version    print the version
  --debug      show the traceback of an error (also CARDIOTWIN_DEBUG=1)

Research software. It is not a medical device; a person decides.
"""

_JOB_TEXT = """\
cardiotwin {command}: {summary}

A run is described by groups of settings. Choose an option of a group with group=option, and set
a single value with group.key=value. A number stands in the documented unit (mm, ms, mV, uA, uF,
mS); text with a unit is converted: 'tissue.key=0.17 S/m'.

groups
{groups}
"""

_JOB_EXAMPLES = """\
examples
  cardiotwin {command}
  cardiotwin {command} experiment=rodero output.folder=runs/heart-01
  cardiotwin {command} mesh.edge_length='2 mm'
  cardiotwin {command} --keys
  cardiotwin {command} -m mesh.edge_length=1.5,2 output.folder=runs/edges
  cardiotwin {command} --config runs/heart-01/config.yaml --resume
  cardiotwin {command} -m launcher=slurm hydra.launcher.partition=gpu mesh.edge_length=1,1.5,2

A run writes to runs/<experiment>/<date_time>, a sweep to one folder for each combination.
"""


def overview() -> str:
    """The text of ``cardiotwin --help``."""
    return _OVERVIEW.format(**_SUMMARY).rstrip()


def job_parser(command: str) -> argparse.ArgumentParser:
    """Make the parser of a command that takes a configuration.

    Args:
        command: "simulate" or "tune".

    Returns:
        The parser.
    """
    groups = "\n".join(f"  {name + '=':<12} {', '.join(v)}" for name, v in _groups().items())
    parser = argparse.ArgumentParser(
        prog=f"cardiotwin {command}",
        usage=f"cardiotwin {command} [key=value ...] [options]",
        description=_JOB_TEXT.format(command=command, summary=_SUMMARY[command], groups=groups),
        epilog=_JOB_EXAMPLES.format(command=command),
        formatter_class=_RAW,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("overrides", nargs="*", metavar="key=value", help="settings")
    show = parser.add_argument_group("looking without running")
    show.add_argument(
        "--keys", action="store_true", help="list every key with its value, unit and kind"
    )
    show.add_argument(
        "--cfg", choices=("job", "hydra", "all"), help="print the composed configuration"
    )
    show.add_argument("--check", action="store_true", help="check the configuration only")
    add("-m", "--multirun", action="store_true", help="one job for each of the values key=a,b,c")
    add("--config", metavar="FILE", help="the config.yaml of a run, in place of groups")
    add(
        "--config-dir", metavar="DIR", help="a folder of your own with files such as mesh/mine.yaml"
    )
    add("--resume", action="store_true", help="go on with the run in output.folder")
    add("--no-progress", dest="progress", action="store_false", help="no progress report")
    add("--no-cache", dest="cache", action="store_false", help="no compilation cache on disk")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser


_CELL_TEXT = """\
Pace a single cell and say what its beat looks like: durations, rest, peak, upstroke, calcium. Ask
for more with the options. Tables, pictures and cell.json go to one folder.

MODEL is one of the models below, or a file (.cellml, .mmt, .ode; needs cardiotwin[cellml]). Set
parameters with name=value, in the units of the model's table.

models
  {models}
"""

_CELL_EXAMPLES = """\
examples
  cardiotwin cell bueno_orovio --type epi
  cardiotwin cell ten_tusscher_2006 g_Kr=0.05 --beats 50
  cardiotwin cell ten_tusscher_2006 --pace --cycle-length 600
  cardiotwin cell ten_tusscher_2006 --s1s1 --s1s2 --refractory --velocity
  cardiotwin cell ohara_rudy_cipa --drug dofetilide --multiples 0,1,2,4 --beats 100
  cardiotwin cell ten_tusscher_2006 --population 500 --ranges human
  cardiotwin cell mine.cellml --s1s1
"""


def cell_parser() -> argparse.ArgumentParser:
    """Make the parser of ``cardiotwin cell``."""
    parser = argparse.ArgumentParser(
        prog="cardiotwin cell",
        usage="cardiotwin cell MODEL [name=value ...] [options]",
        description=_CELL_TEXT.format(models=", ".join(_groups()["ionic"])),
        epilog=_CELL_EXAMPLES,
        formatter_class=_RAW,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="name of a model")
    add("parameters", nargs="*", metavar="name=value", help="parameters of the model")
    add("--type", choices=("endo", "mid", "epi"), help="cell type; epi where left out")
    add("--output", metavar="DIR", help="folder; runs/cell_<model>_<date_time> where left out")
    add("--cycle-length", type=float, default=1000.0, metavar="MS", help="ms between stimuli")
    add("--beats", type=int, default=1, help="beats; the last one is shown")
    add("--dt", type=float, default=0.02, metavar="MS", help="time step")
    add("--precision", choices=("float32", "float64"), default="float64", help="float type")
    limit = parser.add_argument_group("limit cycle")
    limit.add_argument("--pace", action="store_true", help="pace until a cycle changes nothing")
    limit.add_argument(
        "--tolerance", type=float, default=1e-5, help="largest relative change in a cycle"
    )
    limit.add_argument("--most-beats", type=int, default=2000, help="give up after so many")
    rates = parser.add_argument_group("restitution (a list in ms, or the usual one)")
    for name, meaning in (
        ("--s1s1", "dynamic: APD90 at cycle lengths"),
        ("--s1s2", "standard: APD90 after intervals from S1 to S2"),
        ("--velocity", "conduction velocity on a cable after intervals"),
    ):
        rates.add_argument(name, nargs="?", const="", metavar="MS,MS,...", help=meaning)
    rates.add_argument(
        "--refractory", action="store_true", help="diastolic threshold and refractory period"
    )
    drugs = parser.add_argument_group("drugs")
    drugs.add_argument("--drug", metavar="NAME", help="one of the twelve of CiPA")
    drugs.add_argument("--multiples", default="0,1,2,4", help="of the therapeutic concentration")
    drugs.add_argument("--ignore", default="", metavar="I_X,...", help="channels to pass over")
    many = parser.add_argument_group("populations")
    many.add_argument("--population", type=int, default=0, metavar="N", help="cells to sample")
    many.add_argument("--spread", type=float, default=0.5, help="of each conductance, 0.5: 50 %%")
    many.add_argument("--seed", type=int, default=0, help="of the sampling")
    many.add_argument(
        "--ranges", default="human", metavar="FILE", help="human, or JSON, CSV or MAT to hold to"
    )
    add("--json", action="store_true", help="print cell.json instead of text")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser


_MESH_TEXT = """\
Make a heart that can be simulated of an image of labels (NIfTI, NRRD) or of a closed
surface (.vtp): pieces and holes cleaned, a right wall grown where there is none, the base opened,
surfaces epi, endo_lv, endo_rv and base named, regions lv, rv and septum. Fibres by rule are tried.

Labels mean what a table says: {tables}, or a YAML file of lines such as lv_wall: 1
"""

_MESH_EXAMPLES = """\
examples
  cardiotwin mesh labels.nii.gz -o heart.vtu --picture heart.png
  cardiotwin simulate mesh=file mesh.path=heart.vtu
  cardiotwin mesh labels.nii.gz -o heart.nii.gz --spacing 1
  cardiotwin simulate mesh=voxels mesh.image=heart.nii.gz
  cardiotwin mesh labels.nrrd --labels mine.yaml --rv-wall 3 --edge-length 1
  cardiotwin mesh heart.vtp -o heart.vtu
  cardiotwin mesh heart.vtu -o coarse.vtu --remesh 2.5
"""


def mesh_parser() -> argparse.ArgumentParser:
    """Make the parser of ``cardiotwin mesh``."""
    parser = argparse.ArgumentParser(
        prog="cardiotwin mesh",
        description=_MESH_TEXT.format(tables=", ".join(label_tables())),
        epilog=_MESH_EXAMPLES,
        formatter_class=_RAW,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", metavar="FILE", help="image of labels, or closed surface")
    add(
        "-o",
        "--output",
        metavar="OUT",
        help="heart.vtu for tetrahedra (default: FILE's name with _heart.vtu), heart.nii.gz for "
        "voxels",
    )
    add("--edge-length", type=float, default=1.5, metavar="MM", help="mean edge; 1.5")
    add("--picture", metavar="PNG", help="draw the surfaces and sections")
    add("--remesh", type=float, metavar="MM", help="FILE is a mesh: new edges, shorter or longer")
    image = parser.add_argument_group("images")
    image.add_argument("--labels", metavar="TABLE", help="name of a table or a YAML file")
    image.add_argument(
        "--spacing", type=float, default=1.0, metavar="MM", help="voxels to work on; 1"
    )
    image.add_argument(
        "--rv-wall", type=float, default=3.5, metavar="MM", help="right wall to grow; 3.5"
    )
    image.add_argument("--voxel", metavar="MM[,MM,MM]", help="voxels of FILE, if it does not say")
    closed = parser.add_argument_group("closed surfaces")
    closed.add_argument("--unit", help="length unit of FILE: um, mm, cm, m; mm where left out")
    closed.add_argument(
        "--surfaces",
        metavar="NAME=LABEL,...",
        help="base=1,epi=2,endo_lv=3,endo_rv=4 where left out",
    )
    add("--json", action="store_true", help="print what was found as JSON")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser


_TWIN_TEXT = """\
Make a twin folder: a heart with regions and surfaces, fibres, ventricular coordinates, electrodes,
a Purkinje network where asked for, and where all came from. Runs load it in one go and work out
nothing again; every file has a checksum in twin.json, and a changed one is refused.
"""

_TWIN_EXAMPLES = """\
examples
  cardiotwin twin heart.vtu -o patient
  cardiotwin simulate experiment=twin mesh.path=patient
  cardiotwin twin labels.nii.gz -o patient --edge-length 1.5
  cardiotwin twin labels.nii.gz -o patient --voxels 1
  cardiotwin twin heart.vtu.gz --keep lv,rv,septum --names names.json -o patient
  cardiotwin twin heart.vtu -o patient --purkinje grow --angles 60,-60,-20,20
  cardiotwin twin heart.vtu -o patient --scar lge.nii.gz --scar-method fwhm
  cardiotwin simulate experiment=twin mesh.path=patient tissue=scarred
"""


def twin_parser() -> argparse.ArgumentParser:
    """Make the parser of ``cardiotwin twin``."""
    parser = argparse.ArgumentParser(
        prog="cardiotwin twin",
        description=_TWIN_TEXT,
        epilog=_TWIN_EXAMPLES,
        formatter_class=_RAW,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", metavar="FILE", help="mesh, image of labels, or closed surface")
    add("-o", "--output", metavar="DIR", required=True, help="the folder to make")
    add("--overwrite", action="store_true", help="replace the twin that lies there")
    add("--fibres", default="rule", metavar="HOW", help="rule, mesh (FILE's own), or a file")
    add(
        "--angles",
        default="60,-60,-20,20",
        metavar="DEG,...",
        help="of the rule: helix at endocardium and epicardium, sheet at both; 60,-60,-20,20",
    )
    add("--electrodes", metavar="FILE", help="positions in mm (.json, .csv); placed if left out")
    add("--purkinje", default="", metavar="HOW", help="grow, or LV.vtp,RV.vtp; none if left out")
    scar = parser.add_argument_group("scar and border zone, as volume shares of each element")
    scar.add_argument("--scar", metavar="IMAGE", help="LGE image or label map on FILE's place")
    scar.add_argument("--scar-labels", metavar="CORE[,BORDER]", help="IMAGE holds these labels")
    scar.add_argument(
        "--scar-method",
        choices=("sd", "fwhm"),
        default="sd",
        help="of intensities: border 2 SD, core 5 SD above remote muscle; or core half of maximum",
    )
    source = parser.add_argument_group("the source")
    source.add_argument("--unit", help="length unit of FILE: um, mm, cm, m")
    source.add_argument("--names", metavar="JSON", help="names of regions and surfaces by label")
    source.add_argument("--keep", metavar="A,B", help="keep only these regions (lv,rv,septum)")
    source.add_argument("--labels", metavar="TABLE", help="label table of an image")
    source.add_argument(
        "--edge-length", type=float, metavar="MM", help="mean edge; a mesh's own if left out"
    )
    source.add_argument(
        "--voxels", type=float, metavar="MM", help="keep an image as voxels of this edge"
    )
    add("--json", action="store_true", help="print what was found as JSON")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser


_ECG_TEXT = """\
Read an ECG (WFDB, DICOM, CSV in ms and mV), name what is wrong with it, filter it without phase
shift, and measure its median beat: intervals, axis, waves, QRS area, bundle branch block. Writes
measurements.json, beat.csv, the sheet on ECG paper and the loops of the vectorcardiogram.
"""

_ECG_EXAMPLES = """\
examples
  cardiotwin ecg record.hea
  cardiotwin ecg record.dcm --mains 50 --sex female -o patient-01
  cardiotwin ecg runs/beat/ecg.csv --rr 800 --compare record.hea
  cardiotwin ecg export.csv --unit uV --without V3
"""


def ecg_parser() -> argparse.ArgumentParser:
    """Make the parser of ``cardiotwin ecg``."""
    parser = argparse.ArgumentParser(
        prog="cardiotwin ecg",
        description=_ECG_TEXT,
        epilog=_ECG_EXAMPLES,
        formatter_class=_RAW,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="the recording")
    add("-o", "--output", metavar="DIR", help="folder; runs/ecg_<name>_<date_time> where left out")
    add("--compare", metavar="FILE", help="another ECG, drawn over the first, beat on beat")
    add("--unit", help="of FILE's signals: mV, uV, V; what the file says where left out")
    leads = {"type": lambda text: tuple(filter(None, text.split(","))), "default": ()}
    add("--without", **leads, metavar="LEAD,...", help="leads to leave out")
    add(
        "--band",
        choices=("measurement", "diagnostic", "monitoring"),
        default="measurement",
        help="0.5 to 150, 0.05 to 150 or 0.5 to 40 Hz",
    )
    add("--mains", type=float, metavar="HZ", help="take out the mains, 50 or 60 Hz")
    add("--rr", type=float, metavar="MS", help="between beats, where FILE holds a single one")
    add("--sex", choices=("female", "male"), help="for the criteria of left bundle branch block")
    add("--json", action="store_true", help="print measurements.json instead of text")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser


def info_parser() -> argparse.ArgumentParser:
    """Make the parser of ``cardiotwin info``."""
    parser = argparse.ArgumentParser(
        prog="cardiotwin info",
        description=dedent(
            """\
            Say what a mesh file holds (nodes, elements, regions, surfaces, fields), its size and
            quality, and what is missing before it can be simulated. Reads what meshio and PyVista
            read (VTU, VTK, Gmsh, XDMF, Abaqus, with or without .gz) and openCARP's files."""
        ),
        epilog="examples\n  cardiotwin info heart.vtu\n  cardiotwin info heart --unit um --json",
        formatter_class=_RAW,
        allow_abbrev=False,
    )
    parser.add_argument("file", help="the mesh")
    add = parser.add_argument
    add("--unit", help="length unit of the file: um, mm, cm, m; mm where left out, um for openCARP")
    add("--names", metavar="JSON", help="names of regions and surfaces by label")
    add("--keep", metavar="A,B", help="look only at these regions (lv,rv,septum)")
    add(
        "--picture",
        metavar="PNG",
        help="draw the surfaces, found by shape where FILE names none; drawn anyway where the "
        "finding is uncertain",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def doctor_parser() -> argparse.ArgumentParser:
    """Make the parser of ``cardiotwin doctor``."""
    parser = argparse.ArgumentParser(
        prog="cardiotwin doctor",
        description=dedent(
            """\
            Say what works on this machine: Python and packages, JAX and its devices, 64-bit
            floats, the compilation cache, the renderer, ffmpeg, memory, cores and CARDIOTWIN_DATA.
            The exit code is 1 where something failed that a run needs."""
        ),
        formatter_class=_RAW,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _groups() -> dict[str, list[str]]:
    """Groups and options, read from the names of the packaged files."""
    folders = sorted(
        entry
        for entry in resource("configs").iterdir()
        if entry.is_dir() and entry.name != LABEL_TABLES
    )
    return {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}
