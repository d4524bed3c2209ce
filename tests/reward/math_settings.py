"""Settings of the verifier of mathematics as conf/reward/math has them."""

from dataclasses import asdict

from launch.config import compose
from reward.config import MathConfig

PRESETS = {name: compose([f"reward/math={name}"]).reward.math for name in ("lenient", "boxed", "strict")}
LENIENT: MathConfig = PRESETS["lenient"]
SETTINGS = {"math": asdict(LENIENT)}
