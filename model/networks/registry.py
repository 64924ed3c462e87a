"""Every network by its name: the one line that a new one adds outside its own folder."""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

from model.networks.base import NetworkConfig, NetworkError, PublishedForm, TrackingNetwork
from model.networks.qmvos.build import build_qmvos
from model.networks.qmvos.builds import QMVOS_BUILDS
from model.networks.stm.build import build_stm
from model.networks.stm.builds import STM_BUILDS
from model.networks.stma.build import build_stma
from model.networks.stma.builds import STMA_BUILDS
from model.networks.tamvt.build import build_tamvt
from model.networks.tamvt.builds import TAMVT_BUILDS
from model.networks.tamvt.reference import ReferenceTamVT


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A configuration, what builds it, and the paper's long way where the build is the paper's."""

    config: Any  # the NetworkConfig that `build` takes
    build: Callable[[Any], TrackingNetwork]
    published_form: Callable[[Any], PublishedForm] | None = None


NETWORKS: MutableMapping[str, Blueprint] = {
    **{config.name: Blueprint(config, build_tamvt, ReferenceTamVT) for config in TAMVT_BUILDS},
    **{config.name: Blueprint(config, build_qmvos) for config in QMVOS_BUILDS},
    **{config.name: Blueprint(config, build_stm) for config in STM_BUILDS},
    **{config.name: Blueprint(config, build_stma) for config in STMA_BUILDS},
}


def build_network(name: str, **changes: Any) -> TrackingNetwork:
    """Return the network of that name with fresh weights.

    `changes` replace numbers of its configuration. Raise NetworkError for an unknown name.
    """
    blueprint = _find(name)
    return blueprint.build(replace(blueprint.config, **changes))


def find_config(name: str) -> NetworkConfig:
    """Return the configuration of a name; raise NetworkError for an unknown one."""
    config: NetworkConfig = _find(name).config
    return config


def publish_form(network: TrackingNetwork) -> PublishedForm:
    """Return the network by its paper's long way, with the same weights.

    Raise NetworkError for a network that no paper describes.
    """
    form = _find(network.config.name).published_form
    if form is None:
        raise NetworkError(f"{network.config.name} has no published form")
    return form(network)


def _find(name: str) -> Blueprint:
    if name not in NETWORKS:
        raise NetworkError(f"there is no network {name!r}, but {', '.join(NETWORKS)}")
    return NETWORKS[name]
