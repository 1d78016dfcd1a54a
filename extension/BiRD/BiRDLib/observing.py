"""Observers of VTK objects that end with their owner. Knows nothing about who observes what.

A VTK object holds its Python callbacks strongly, and calls them while Python takes both apart; that
crashes. So callbacks hold their owner weakly, and are removed before the owner goes.
"""

import weakref

import vtk


class Observing:
    """The observers that one owner has added; `owner`'s end removes them."""

    def __init__(self, owner):
        self._tags = []  # (object, tag)
        weakref.finalize(owner, _remove, self._tags)

    def add(self, thing, event, method):
        """Calls the bound `method(thing, event)` on each event."""
        self._tags.append((thing, thing.AddObserver(event, _weakly(method))))

    def addWithNode(self, thing, event, method):
        """Calls the bound `method(thing, event, node)`, for events that are about a node."""
        callback = vtk.calldata_type(vtk.VTK_OBJECT)(_weakly(method))
        self._tags.append((thing, thing.AddObserver(event, callback)))

    def stop(self):
        """Removes all observers added so far."""
        _remove(self._tags)


def _remove(tags):
    while tags:
        thing, tag = tags.pop()
        thing.RemoveObserver(tag)


def _weakly(method):
    reference = weakref.WeakMethod(method)

    def call(*arguments):
        alive = reference()
        if alive is not None:
            alive(*arguments)

    return call
