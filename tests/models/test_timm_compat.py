"""timm imports, whatever state torchvision is in. In subprocesses: imports happen once."""

import subprocess
import sys

BROKEN = """
import sys, types, importlib.abc, importlib.machinery, torch

class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        sys.modules["torchvision.half"] = types.ModuleType("torchvision.half")
        if not healthy:
            torch.library.register_fake("torchvision::nms")(lambda *a: None)

sys.meta_path.insert(0, Finder())
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def compat_alone() -> str:
    """The cure without the import of timm behind it."""
    return (
        "import pathlib, unienc_core.models as m\n"
        "source = pathlib.Path(m.__file__).with_name('timm_compat.py').read_text()\n"
        "exec(source.split('HEALED = ')[0])\n"
    )


def test_timm_and_transformers_import_behind_the_door():
    out = run(
        "from unienc_core.models import timm_compat\n"
        "import torchvision\n"
        "from transformers import SwinBackbone\n"
        "print(timm_compat.heal_torchvision(), timm_compat.create_model('resnet10t') is not None)"
    )
    assert out == "False True"


def test_a_torchvision_of_another_torch_is_cured():
    code = BROKEN + "healthy = False\n" + compat_alone()
    code += "print(heal_torchvision(), heal_torchvision(), 'torchvision.half' in sys.modules)\n"
    code += "torch.library.register_fake('torchvision::qnms')(lambda *a: None)\n"
    assert run(code) == "True False True"


def test_a_healthy_torchvision_is_left_alone():
    code = BROKEN + "healthy = True\n" + compat_alone()
    code += "print(heal_torchvision(), _declared)\n"
    assert run(code) == "False []"


def test_only_this_module_imports_timm():
    code = (
        "import pathlib, re, unienc_core\n"
        "root = pathlib.Path(unienc_core.__file__).parent\n"
        "found = [p.name for p in root.rglob('*.py')\n"
        "         if re.search(r'^\\s*(import|from) timm\\b', p.read_text(), re.M)]\n"
        "print(found)"
    )
    assert run(code) == "['timm_compat.py']"
