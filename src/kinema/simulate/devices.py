"""What processors can do at most, by their data sheets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Device:
    """`peak_tflops` of dense bfloat16 products. Rates in GB a second and direction: `link_gbs` between the
    processors of a node, `network_gbs` of one processor's share of the network between nodes."""

    name: str
    peak_tflops: float
    memory_gb: float
    link_gbs: float
    network_gbs: float
    a_node: int = 8

    def __post_init__(self) -> None:
        for name in ("peak_tflops", "memory_gb", "link_gbs", "network_gbs", "a_node"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    def rate_gbs(self, ranks: int) -> float:
        """Of a ring of so many processors: the slowest part of it, which is the network between nodes."""
        return self.link_gbs if ranks <= self.a_node else min(self.link_gbs, self.network_gbs)


DEVICES = (
    Device(name="h100", peak_tflops=989, memory_gb=80, link_gbs=450, network_gbs=50),
    Device(name="h800", peak_tflops=989, memory_gb=80, link_gbs=200, network_gbs=50),
    Device(name="h200", peak_tflops=989, memory_gb=141, link_gbs=450, network_gbs=50),
    Device(name="a100", peak_tflops=312, memory_gb=80, link_gbs=300, network_gbs=25),
    Device(name="a800", peak_tflops=312, memory_gb=80, link_gbs=200, network_gbs=25),
    Device(name="rtx4090", peak_tflops=165, memory_gb=24, link_gbs=25, network_gbs=12.5),
)
