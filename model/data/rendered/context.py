"""An OpenGL context without a display: EGL, which is Mesa's llvmpipe where there is no GPU."""

from typing import Any

from model.errors import ModelError

PACKAGES = "libegl1 libgl1 libgl1-mesa-dri libglx-mesa0"


class RendererUnavailable(ModelError):
    """A package of Python or of the system that rendering needs is missing."""


def open_context() -> Any:
    """Return a moderngl context; raise RendererUnavailable where there can be none."""
    try:
        import moderngl
    except ImportError as error:
        raise RendererUnavailable("rendering needs moderngl: install the extra `render`") from error
    try:
        settings: dict[str, Any] = {"backend": "egl"}
        return moderngl.create_context(require=330, standalone=True, **settings)
    except Exception as error:  # the backend raises bare Exceptions
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RendererUnavailable(
            f"no OpenGL without a display here ({reason}): on Debian, apt-get install {PACKAGES}"
        ) from error
