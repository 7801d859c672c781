"""Reading of configurations: compose them, check them, build the objects they describe.

A configuration is a tree of plain values. A node with a ``_target_`` describes one object of this
package; everything else in it is an argument of that object's constructor. Because such files are
passed around, reading one must not be able to run anybody else's code: targets are limited to
what this package defines, nothing is unpickled, and Hydra's own settings are held to an allow-list
(``policy.py``). The whole tree is checked before the first object is built.
"""

from cardiotwin._resources import resource as resource
from cardiotwin.config.compose import load as load
from cardiotwin.config.tree import build as build
from cardiotwin.config.tree import check as check
