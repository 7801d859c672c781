"""Cell models from files: CellML, Myokit and gotran (`read_cell_model`)."""

from cardiotwin.ionic.imported.importer import cell_model_class as cell_model_class
from cardiotwin.ionic.imported.importer import describe_cell_model as describe_cell_model
from cardiotwin.ionic.imported.importer import read_cell_model as read_cell_model
from cardiotwin.ionic.imported.model import ImportedModel as ImportedModel
from cardiotwin.ionic.imported.model import Report as Report
from cardiotwin.ionic.imported.reading import is_cell_file as is_cell_file
