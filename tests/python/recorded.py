"""Records which public names of an object a script uses, so that it can be told which ones it does not."""
import inspect


class Recorded:
    """Stands for an object. What the object calls on itself is not recorded: only what is asked of it from outside."""

    seen = set()

    def __init__(self, target):
        self._target = target

    def __getattr__(self, name):
        Recorded.seen.add((type(self._target).__name__, name))
        return getattr(self._target, name)

    def __enter__(self):
        self._target.__enter__()
        return self

    def __exit__(self, *why):
        return self._target.__exit__(*why)


def check(classes, excluded):
    """Fails if a public name of a class was neither used nor excluded, or is excluded and was used after all."""
    public = {
        (one.__name__, name) for one in classes for name, _ in inspect.getmembers(one) if not name.startswith("_")
    }
    missed = public - Recorded.seen - excluded.keys()
    assert not missed, f"never called: {sorted(missed)}"
    needless = excluded.keys() & Recorded.seen | excluded.keys() - public
    assert not needless, f"excluded without need: {sorted(needless)}"
    print(f"{len(public) - len(excluded)} of {len(public)} public names used")
