"""What `import loopline as ll` gives, as type checkers see it; `__init__.py` gives the same when it is asked for."""

from loopline.client import connect as connect
from loopline.client.autolog import autolog as autolog
from loopline.client.run import log as log
from loopline.client.run import run as run
from loopline.evaluation.gates import gate as gate
from loopline.features.definitions import feature as feature
from loopline.features.definitions import feature_view as feature_view
from loopline.loop.declaration import Loop as Loop
from loopline.loop.declaration import monitor as monitor
from loopline.loop.declaration import retrain as retrain
from loopline.loop.declaration import rollout as rollout
from loopline.loop.declaration import source as source
from loopline.loop.declaration import split as split
from loopline.loop.declaration import step as step
from loopline.loop.table import Table as Table
from loopline.loop.table import boosted as boosted
from loopline.loop.table import constant as constant
from loopline.loop.table import linear as linear
from loopline.operations import Body as Body
from loopline.packaging.ensemble import Ensemble as Ensemble
from loopline.packaging.ensemble import node as node
from loopline.quality.cleaning_steps import clean as clean
from loopline.quality.contract import column as column
from loopline.quality.contract import contract as contract
from loopline.quality.contract import fresh as fresh
from loopline.quality.contract import like as like
from loopline.quality.contract import rows as rows
from loopline.quality.contract import rule as rule
from loopline.quality.contract import schema as schema
from loopline.quality.contract import unique as unique
from loopline.training.model import Model as Model
from loopline.training.records import tune as tune

__version__: str
