"""Track objects through video in this process, without a service: `tamvt.Tracker`.

    tracker = tamvt.Tracker("00000.jpg", "00000.png")
    for frame in tracker.track(["00001.jpg", "00002.jpg"]):
        print(frame.number, frame.labels.shape, frame.lost)

It gives the masks that the service gives. `tamvt_client` is for a service that runs.
"""

from importlib.metadata import version

from service.local.tracker import TrackedFrame, Tracker

__all__ = ["TrackedFrame", "Tracker", "__version__"]
__version__ = version("tamvt-serve")
