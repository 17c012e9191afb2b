"""`ll.autolog`: what scikit-learn and LightGBM fit is logged, without a line in the code that fits.

It works by wrapping: `fit` of every estimator (also of classes that are made later), and `lightgbm.train`. Only the outermost
fit counts, so a pipeline or a search is one run. No model is kept, for its only form here would be a pickle.
"""

from __future__ import annotations

import functools
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakSet

from loopline.client.fits import BoosterFit, EstimatorFit
from loopline.client.going import mine
from loopline.client.run import Run, active, run

T = TypeVar("T")

Fit = BoosterFit | EstimatorFit


def autolog(on: bool = True) -> None:
    """Logs from now on what scikit-learn's estimators and LightGBM fit; `ll.autolog(False)` ends that.

        ll.autolog()
        LogisticRegression().fit(rows, labels)

    A fit goes to the active run where it is the first there, to a child of it where it is a further one, and to a run of its own
    where none is active. Logged are the params, the shape of the training rows, how long it took, the score on the training
    rows, LightGBM's evaluations of each iteration, the best of a search, and how much each feature counts. Estimators that only
    transform are not logged. A failure of the logging is warned of once, and never disturbs the fit.
    """
    with _changing:
        if on and not _undo:
            import lightgbm  # its estimators are scikit-learn's, too, so it comes first
            from sklearn.base import BaseEstimator

            for kind in _kinds(BaseEstimator):
                _wrap_fit(kind)
            _wrap_later_ones(BaseEstimator)
            _wrap_train(lightgbm)
        elif not on:
            while _undo:
                _undo.pop()()


_undo: list[Callable[[], None]] = []
_changing = threading.Lock()
_inside: ContextVar[bool] = ContextVar("loopline_inside_a_fit", default=False)
_fitting: set[int] = set()
_used: WeakSet[Run] = WeakSet()
_warned: set[str] = set()


def _kinds(kind: type) -> Iterator[type]:
    yield kind
    below: type
    for below in kind.__subclasses__():
        yield from _kinds(below)


def _wrap_fit(kind: type) -> None:
    """Wraps `fit` of a class, in the class that defines it, once."""
    owner: Any = next((above for above in kind.__mro__ if "fit" in vars(above)), None)
    if owner is None or not inspect.isfunction(plain := vars(owner)["fit"]) or hasattr(plain, "_loopline"):
        return

    @functools.wraps(plain)
    def fit(*given: Any, **named: Any) -> Any:
        if not _outermost() or not _predicts(given[0]):
            return plain(*given, **named)
        return _logged(EstimatorFit(plain, given, named))

    fit._loopline = True  # type: ignore[attr-defined]
    owner.fit = fit
    _undo.append(lambda: setattr(owner, "fit", plain) if vars(owner).get("fit") is fit else None)


def _wrap_later_ones(base: Any) -> None:
    inherited = base.__init_subclass__.__func__

    def init_subclass(kind: type, /, **given: Any) -> None:
        inherited(kind, **given)
        _wrap_fit(kind)

    base.__init_subclass__ = classmethod(init_subclass)
    _undo.append(lambda: delattr(base, "__init_subclass__"))


def _wrap_train(lightgbm: Any) -> None:
    plain = lightgbm.train

    @functools.wraps(plain)
    def train(*given: Any, **named: Any) -> Any:
        return _logged(BoosterFit(plain, given, named)) if _outermost() else plain(*given, **named)

    lightgbm.train = lightgbm.engine.train = train

    def restore() -> None:
        lightgbm.train = lightgbm.engine.train = plain

    _undo.append(restore)


def _predicts(estimator: Any) -> bool:
    try:
        return hasattr(estimator, "predict")
    except Exception:  # a property of somebody's own
        return False


def _outermost() -> bool:
    """Whether a fit that begins now is within no other one.

    A thread that a fit started knows nothing of it; so while any fit goes on, that of another thread counts as part of it,
    unless that thread has a run of its own.
    """
    return not _inside.get() and (not _fitting or mine())


def _logged(fit: Fit) -> Any:
    """Does the fit and logs it; gives what it gives, and raises what it raises."""
    inside = _inside.set(True)
    thread = threading.get_ident()
    _fitting.add(thread)
    try:
        begun = _quietly(fit.name, lambda: _begun(fit))
        if begun is None:
            return fit.call()
        target, own = begun
        try:
            found = fit.call(lambda log: _quietly(fit.name, lambda: log(target)))
        except BaseException as e:
            if own:
                _quietly(fit.name, functools.partial(target.__exit__, type(e), e, None))
            raise
        _quietly(fit.name, lambda: fit.report(target, found))
        if own:
            _quietly(fit.name, target.finish)
        return found
    finally:
        _fitting.discard(thread)
        _inside.reset(inside)


def _begun(fit: Fit) -> tuple[Run, bool]:
    """The run that a fit is logged to, with its params; and whether it ends with the fit."""
    above = active()
    own = above is None or above in _used
    target = above if above is not None and not own else run(fit.name)
    try:
        _used.add(target)
        target.tag(fit.tags())
        target.params(fit.params())
    except BaseException as e:
        if own:
            target.__exit__(type(e), e, None)
        raise
    return target, own


def _quietly(what: str, call: Callable[[], T]) -> T | None:
    """What the call gives; None where it fails, which is warned of the first time."""
    try:
        return call()
    except Exception as e:
        said = f"Autologging of {what} failed: {e}"
        if what not in _warned:
            _warned.add(what)
            warnings.warn(said, RuntimeWarning, stacklevel=4)
        return None
