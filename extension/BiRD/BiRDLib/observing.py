"""Observers of VTK objects that end with their owner. Knows nothing about who observes what.

A VTK object holds its Python callbacks strongly, and calls them while Python takes both apart; that
crashes. So callbacks hold their owner weakly, and are removed before the owner goes.
"""

import weakref

import vtk


class Observing:
    """The observers that one owner has added; `owner`'s end removes them."""

    def __init__(self, owner):
        self._tags = {}  # object -> tags
        weakref.finalize(owner, _remove, self._tags)

    def add(self, thing, event, method):
        """Calls the bound `method(thing, event)` on each event."""
        self._note(thing, thing.AddObserver(event, _weakly(method)))

    def addWithNode(self, thing, event, method):
        """Calls the bound `method(thing, event, node)`, for events that are about a node."""
        callback = vtk.calldata_type(vtk.VTK_OBJECT)(_weakly(method))
        self._note(thing, thing.AddObserver(event, callback))

    def keepOnly(self, things):
        """Removes the observers of all others; returns those of `things` that have none yet."""
        gone = self._tags.keys() - set(things)
        _remove({thing: self._tags.pop(thing) for thing in gone})
        return [thing for thing in things if thing not in self._tags]

    def stop(self):
        """Removes all observers added so far."""
        _remove(self._tags)

    def _note(self, thing, tag):
        self._tags.setdefault(thing, []).append(tag)


def _remove(tags):
    while tags:
        thing, own = tags.popitem()
        for tag in own:
            thing.RemoveObserver(tag)


def _weakly(method):
    reference = weakref.WeakMethod(method)

    def call(*arguments):
        alive = reference()
        if alive is not None:
            alive(*arguments)

    return call
