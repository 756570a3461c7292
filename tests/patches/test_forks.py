"""Single files of forks, as different as the facts allow: what each patch makes of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tools.patching.model import ALREADY, APPLIES, NO_FIT, Finding, Patch, Work, load
from tools.patching.tree import Tree

REMBG = "hy3dgen/rembg.py"
DELIGHT = "hy3dgen/texgen/utils/dehighlight_utils.py"
VIEWS = "hy3dgen/texgen/utils/multiview_utils.py"
TEXGEN = "hy3dgen/texgen/pipelines.py"
PAINT = "hy3dgen/texgen/hunyuanpaint/pipeline.py"
NETWORK = "hy3dgen/texgen/hunyuanpaint/unet/modules.py"
RENDER = "hy3dgen/texgen/differentiable_renderer/mesh_render.py"
SHAPE = "hy3dgen/shapegen/pipelines.py"
DENOISER = "hy3dgen/shapegen/models/denoisers/hunyuan3ddit.py"
VOLUME = "hy3dgen/shapegen/models/autoencoders/volume_decoders.py"


def one(patch: str, file: str, text: str | bytes) -> tuple[Finding, str]:
    """(what a patch says of one file, the file afterwards); a second run changes nothing and finds it in place."""
    data = text if isinstance(text, bytes) else text.encode()
    whole = load(patch)
    places = tuple(place for place in whole.places if place.file == file)[:1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, file)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        work = Work(Tree(Path(folder)))
        (finding, *_) = work.run(Patch(whole.name, whole.head, places))
        after = work.now[file]
        if finding.state == APPLIES:
            compile(after, file, "exec")
            path.write_bytes(after)
            again = Work(Tree(Path(folder)))
            assert [f.state for f in again.run(Patch(whole.name, whole.head, places))] == [ALREADY] * len(places)
        else:
            assert after == data
    return finding, after.decode("utf-8", "surrogateescape")


def applied(patch: str, file: str, text: str) -> str:
    finding, after = one(patch, file, text)
    assert finding.state == APPLIES, finding.why
    return after


# rembg -------------------------------------------------------------------------------------------------------------


def remover(init: str, head: str = "from rembg import new_session, remove\n") -> str:
    return f"{head}\n\nclass BackgroundRemover:\n{init}\n    def __call__(self, image):\n        return remove(image)\n"


@pytest.mark.parametrize(
    ("session", "state"),
    [
        ("new_session()", APPLIES),
        ("new_session('isnet')", APPLIES),
        ("new_session(model_name='u2net', providers=['CUDAExecutionProvider'])", APPLIES),
        ("new_session(model_name='u2net', providers=None)", APPLIES),
        ("new_session(model_name='u2net', providers=['CPUExecutionProvider'])", ALREADY),
        ("new_session('u2net', chosen)", ALREADY),
        ("new_session(**options)", NO_FIT),
    ],
)
def test_sessions(session, state):
    """A fork's own providers: a fixed list with the GPU gets the switch, a choice or the CPU alone is left."""
    finding, after = one("rembg_on_cpu", REMBG, remover(f"    def __init__(self): self.session = {session}\n"))
    assert finding.state == state, finding.why
    if state == APPLIES:
        assert "if use_cpu else" in after
        assert "use_cpu=True" in after


def test_session_made_later_or_under_another_name():
    head = "import rembg\nfrom rembg import new_session as make, remove\n"
    text = remover(
        "    def __init__(self, **kwargs):\n        self.session = None\n\n"
        "    def load(self):\n        self.session = make()\n",
        head,
    )
    after = applied("rembg_on_cpu", REMBG, text)
    seen: dict = {}
    space = {"make": lambda *args, **kwargs: seen.update(kwargs, model=args[0])}
    exec(after.replace(head, ""), space)
    space["BackgroundRemover"](use_cpu=False).load()
    assert seen["providers"][0] == "CUDAExecutionProvider"
    space["BackgroundRemover"]().load()
    assert seen == {"model": "u2net", "providers": ["CPUExecutionProvider"]}


def test_imported_size_cap_is_called_and_not_replaced():
    text = remover("    pass\n", "from mine.sizes import preprocess_image_size\nfrom rembg import remove\n")
    after = applied("input_size_cap", REMBG, text)
    assert "def preprocess_image_size" not in after
    assert "image = preprocess_image_size(image)" in after


def test_size_cap_of_a_method_on_one_line():
    text = (
        "from rembg import remove\nclass BackgroundRemover:\n    def __call__(self, *, image): return remove(image)\n"
    )
    assert "image = preprocess_image_size(image)\n        return remove(image)" in applied(
        "input_size_cap", REMBG, text
    )


# diffusion stages --------------------------------------------------------------------------------------------------


def stage(init: str, name: str = "Multiview_Diffusion_Net", head: str = "import diffusers\n") -> str:
    body = "".join(f"        {line}\n" for line in init.splitlines())
    return f"{head}\n\nclass {name}:\n    def __init__(self, config, extra=1):\n{body}"


MADE = {
    "attribute": "self.pipeline = diffusers.DiffusionPipeline.from_pretrained(config.p)\nself.pipeline.to('cpu')",
    "chained": "self.pipeline = diffusers.DiffusionPipeline.from_pretrained(config.p).to(config.device)",
    "annotated": "pipeline: object = diffusers.DiffusionPipeline.from_pretrained(config.p)\nself.pipeline = pipeline",
    "twice assigned": "self.pipeline = pipe = diffusers.DiffusionPipeline.from_pretrained(config.p)",
    "semicolons": "pipe = diffusers.DiffusionPipeline.from_pretrained(config.p); self.pipeline = pipe.to('cpu')",
    "two networks": (
        "unet = diffusers.UNet.from_pretrained(config.u)\n"
        "pipe = diffusers.DiffusionPipeline.from_pretrained(config.p, unet=unet)\nself.pipeline = pipe"
    ),
    "branches": (
        "if extra:\n    pipe = diffusers.DiffusionPipeline.from_pretrained(config.p)\n"
        "else:\n    pipe = diffusers.DiffusionPipeline.from_pretrained(config.q, a=1)\nself.pipeline = pipe"
    ),
    "try": (
        "try:\n    pipe = diffusers.DiffusionPipeline.from_pretrained(config.p)\n"
        "except OSError:\n    pipe = diffusers.DiffusionPipeline.from_pretrained(config.q)\nself.pipeline = pipe"
    ),
    "chosen": (
        "pipe = diffusers.DiffusionPipeline.from_pretrained(config.p) if extra else "
        "diffusers.DiffusionPipeline.from_pretrained(config.q)\nself.pipeline = pipe"
    ),
}


class FakePipeline:
    """Records what is done to it."""

    @classmethod
    def from_pretrained(cls, path, **kwargs):
        made = cls()
        made.path, made.kwargs, made.done, made.vae = path, kwargs, [], Vae()
        return made

    def to(self, *_):
        return self

    def enable_attention_slicing(self):
        self.done.append("slices")


class Vae:
    tile_sample_min_size, tile_latent_min_size = 256, 32

    def __init__(self):
        self.done = []

    def enable_slicing(self):
        self.done.append("slicing")

    def enable_tiling(self):
        self.done.append("tiling")


def build(text: str, extra: int = 1, **config: object):
    """The object that a patched stage's class makes, diffusers played by fakes."""
    import types

    fake = types.SimpleNamespace(DiffusionPipeline=FakePipeline, UNet=FakePipeline)
    space: dict = {"diffusers": fake}
    exec(text.replace("import diffusers\n", ""), space)
    return space["Multiview_Diffusion_Net"](types.SimpleNamespace(p="p", q="q", u="u", device="cpu", **config), extra)


@pytest.mark.parametrize("shape", MADE)
def test_every_way_to_make_the_pipeline(shape):
    """Each branch gets its calls, whatever the statement looks like."""
    text = stage(MADE[shape])
    for patch in ("vae_slicing_tiling", "attention_slicing", "paint_without_text_encoder"):
        text = applied(patch, VIEWS, text)
    for extra in (0, 1):
        pipeline = build(text, extra).pipeline
        assert sorted(pipeline.vae.done) == ["slicing", "tiling"]
        assert pipeline.kwargs["text_encoder"] is None
        assert pipeline.kwargs["tokenizer"] is None


def test_tiles_are_never_smaller_than_the_views_unless_asked():
    """A published VAE has a sample size of 256: its own tile size would change pictures of 512 px."""
    text = applied("vae_slicing_tiling", VIEWS, stage(MADE["attribute"]))
    vae = build(text).pipeline.vae
    assert (vae.tile_sample_min_size, vae.tile_latent_min_size) == (512, 64)
    vae = build(text, vae_tile_px=256).pipeline.vae
    assert (vae.tile_sample_min_size, vae.tile_latent_min_size) == (256, 32)


def test_techniques_in_other_words_are_seen():
    text = stage(MADE["attribute"] + "\nself.pipeline.enable_vae_slicing()\nself.pipeline.enable_vae_tiling()")
    assert one("vae_slicing_tiling", VIEWS, text)[0].state == ALREADY
    half = stage(MADE["attribute"] + "\nself.pipeline.enable_vae_slicing()")
    after = applied("vae_slicing_tiling", VIEWS, half)
    assert after.count("slicing()") == 1
    assert after.count("enable_tiling()") == 1


@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        ("config.p, text_encoder=None, tokenizer=None", ALREADY),
        ("config.p, text_encoder=None", APPLIES),
        ("config.p, text_encoder=config.mine", NO_FIT),
        ("config.p, **dict(text_encoder=None, tokenizer=None)", ALREADY),
        ("config.p, **{'text_encoder': None, 'tokenizer': None}", ALREADY),
        ("config.p, **config.options", APPLIES),
    ],
)
def test_text_encoder_already_given(arguments, state):
    text = stage(f"self.pipeline = diffusers.DiffusionPipeline.from_pretrained({arguments})")
    finding, after = one("paint_without_text_encoder", VIEWS, text)
    assert finding.state == state, finding.why
    if state == APPLIES and "options" not in after:
        build(after)


def test_aliased_class_and_no_pipeline_at_all():
    alias = stage(
        "x = DP.from_pretrained(config.p)\nself.p = x", head="from diffusers import DiffusionPipeline as DP\n"
    )
    assert one("vae_slicing_tiling", VIEWS, alias)[0].state == APPLIES
    finding, _ = one("vae_slicing_tiling", VIEWS, stage("self.net = Net.from_pretrained(config.p)"))
    assert finding.state == NO_FIT
    assert "nearest: Net.from_pretrained" in finding.why


STEPS = {
    "argument": "return self.pipeline(x, num_inference_steps=15)",
    "dictionary": "options = dict(num_inference_steps=15)\n        return self.pipeline(x, **options)",
    "literal": "options = {'num_inference_steps': 15}\n        return self.pipeline(x, **options)",
    "key": "o = {}\n        o['num_inference_steps'] = 15\n        return self.pipeline(x, **o)",
    "local": "steps = 15\n        return self.pipeline(x, num_inference_steps=steps)",
}


@pytest.mark.parametrize("shape", STEPS)
def test_steps_follow_the_configuration_and_keep_a_forks_number(shape):
    """A configuration that says nothing means the fork's 15, before and after both places are patched."""
    import types

    text = (
        stage("self.config = 'taken'\nself.pipeline = None") + f"\n    def __call__(self, x):\n        {STEPS[shape]}\n"
    )
    space: dict = {}
    exec(applied("inference_steps", VIEWS, text), space)
    config_text = "class Hunyuan3DTexGenConfig:\n    def __init__(self, a): self.a = a\n"
    exec(applied("inference_steps", TEXGEN, config_text), space)
    config = space["Hunyuan3DTexGenConfig"](1)
    for given in (config, types.SimpleNamespace()):
        net = space["Multiview_Diffusion_Net"](given)
        net.pipeline = lambda x, num_inference_steps: num_inference_steps
        assert net.config == "taken"
        assert net(0) == 15
        given.multiview_inference_steps = 4  # after the object was made, as users of from_pretrained must
        assert net(0) == 4


# paint -------------------------------------------------------------------------------------------------------------

FEATURES = {
    "subscript": """
        if KEY in extra:
            feats = extra[KEY]
        else:
            feats = {}
            ref = self.unet_dual
            ref(extra['ref_latents'], cross_attention_kwargs=dict(mode='w', condition_embed_dict=feats))
            extra[KEY] = feats
""",
    "update": """
        if 'condition_embed_dict' in extra:
            feats = extra['condition_embed_dict']
        else:
            feats = {}
            self.unet_dual(extra['ref_latents'], cross_attention_kwargs={'condition_embed_dict': feats})
            extra.update({'condition_embed_dict': feats})
""",
    "get": """
        feats = extra.get('condition_embed_dict', None)
        ref = self.unet_dual
        if feats is None:
            feats = {}
            ref(extra['ref_latents'], cross_attention_kwargs={'condition_embed_dict': feats})
""",
    "negated": """
        if not ('condition_embed_dict' in extra):
            feats = {}
            self.unet_dual(extra['ref_latents'], condition_embed_dict=feats)
        else:
            feats = extra['condition_embed_dict']
""",
}
NET_TEXT = """
KEY = 'condition_embed_dict'
class UNet2p5DConditionModel(torch.nn.Module):
    is_turbo = False
    def __init__(self, unet, dual):
        super().__init__()
        self.unet, self.unet_dual = unet, dual
    def forward(self, sample, timestep, *args, **extra):{body}
        return (self.unet(sample, feats),)
"""
PAINT_TEXT = """
class HunyuanPaintPipeline:
    def denoise(self, latents, *, steps=3, **conditions):
        for i, t in enumerate(self.progress_bar(range(steps))):
            latents = latents + self.unet(latents, t, return_dict=False, **conditions)[0]
        return latents
"""


def paint_space(network: str, loop: str) -> dict:
    space: dict = {"__name__": "patched"}
    exec("import torch\n" + network + loop.replace("import torch\n", ""), space)
    space["HunyuanPaintPipeline"].progress_bar = lambda self, steps: steps
    return space


def paint_pipeline(space: dict):
    """A pipeline on a network whose reference stream notes its runs and where it was moved."""
    import torch

    class Dual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.runs, self.moves = [], []

        def to(self, device):
            self.moves.append(str(device))
            return self

        def forward(self, latents, condition_embed_dict=None, cross_attention_kwargs=None):
            self.runs.append(float(latents.sum()))
            store = condition_embed_dict if condition_embed_dict is not None else cross_attention_kwargs.pop(KEY)
            store["layer"] = latents.sum()

    class Unet(torch.nn.Module):
        def forward(self, sample, features):
            return sample * features["layer"]

    pipeline = space["HunyuanPaintPipeline"]()
    pipeline.unet = space["UNet2p5DConditionModel"](Unet(), Dual())
    return pipeline


KEY = "condition_embed_dict"


@pytest.mark.parametrize("own", [False, True], ids=["checkpoint's class", "tree's class"])
@pytest.mark.parametrize("shape", FEATURES)
def test_reference_runs_once_a_picture(shape, own):
    """With a checkpoint's class (not patched) as with the tree's; moved off, and back for the next picture."""
    import torch

    network = NET_TEXT.replace("{body}", FEATURES[shape])
    loop = applied("reference_cache", PAINT, "import torch\n" + PAINT_TEXT)
    patched = applied("reference_cache", NETWORK, "import torch\n" + network)
    pipeline = paint_pipeline(paint_space(patched if own else network, loop))
    plain = paint_pipeline(paint_space(network, PAINT_TEXT))
    dual = pipeline.unet.unet_dual
    for picture in (1.0, 2.0):
        given = {"latents": torch.ones(2), "ref_latents": torch.full((3,), picture)}
        torch.testing.assert_close(pipeline.denoise(**given), plain.denoise(**given))
        assert set(given) == {"latents", "ref_latents"}
    assert dual.runs == [3.0, 6.0]
    assert not dual._forward_pre_hooks
    assert dual.moves[-1] == "cpu"
    pipeline.unet(torch.ones(2), 0, ref_latents=torch.ones(1))  # another caller, without the loop
    assert dual.runs[-1] == 1.0


def test_failed_first_step_leaves_no_hook():
    import torch

    loop = applied("reference_cache", PAINT, "import torch\n" + PAINT_TEXT)
    pipeline = paint_pipeline(paint_space(NET_TEXT.replace("{body}", FEATURES["get"]), loop))
    with pytest.raises(KeyError):
        pipeline.denoise(torch.ones(2))
    assert not pipeline.unet.unet_dual._forward_pre_hooks
    assert not pipeline.unet.unet_dual.runs


def test_offloaded_modules_are_not_moved():
    """Moving what an offloading library manages fails for parameters on the meta device."""
    import torch

    loop = applied("reference_cache", PAINT, "import torch\n" + PAINT_TEXT)
    network = applied("reference_cache", NETWORK, "import torch\n" + NET_TEXT.replace("{body}", FEATURES["subscript"]))
    pipeline = paint_pipeline(paint_space(network, loop))
    pipeline.unet._hf_hook = object()
    pipeline.denoise(torch.ones(2), ref_latents=torch.ones(3))
    assert pipeline.unet.unet_dual.moves == []
    assert pipeline.unet.unet_dual.runs == [3.0]


LOOPS = {
    "tqdm": "for t in tqdm(timesteps):\n            x = self.model(x, t)",
    "progress bar": "for i, t in enumerate(self.progress_bar(timesteps)):\n            x = self.model(x, t)",
    "range": "for i in range(num_inference_steps): x = self.model(x, i)",
    "renamed": "for t in ts:\n            x = self.scheduler.step(x, t)",
    "bar": "pbar = tqdm(timesteps)\n        for t in pbar:\n            x = x + t",
    "second": "for t in timesteps:\n            pass\n        for t in timesteps:\n            x = self.model(x, t)",
    "attribute": "for t in timesteps:\n            if self.cancel_event: pass\n            x = self.model(x, t)",
}


@pytest.mark.parametrize("shape", LOOPS)
def test_loops_that_can_be_cancelled(shape):
    text = (
        "class Hunyuan3DDiTPipeline:\n    cancel_event = None\n"
        "    def __call__(self, x, num_inference_steps=3):\n"
        f"        timesteps = ts = range(num_inference_steps)\n        {LOOPS[shape]}\n        return x\n"
    )
    finding, after = one("cancel_event", SHAPE, text)
    assert finding.state == APPLIES, finding.why
    space: dict = {"tqdm": lambda items: items}
    exec(after, space)
    import threading
    import types

    pipeline = space["Hunyuan3DDiTPipeline"]()
    seen: list = []
    pipeline.model = lambda x, t: seen.append(t) or x
    pipeline.progress_bar, pipeline.scheduler = (lambda items: items), types.SimpleNamespace(step=pipeline.model)
    pipeline(0)
    event = threading.Event()
    event.set()
    seen.clear()
    with pytest.raises(InterruptedError):
        pipeline(0, cancel_event=event)
    assert not seen
    pipeline.cancel_event = event
    with pytest.raises(InterruptedError):
        pipeline(0)


def test_forks_own_cancelling_is_left():
    text = (
        "class Hunyuan3DDiTPipeline:\n    def __call__(self, timesteps, **kwargs):\n"
        "        cancel_event = kwargs.pop('cancel_event', None)\n"
        "        for t in timesteps:\n            if cancel_event and cancel_event.is_set(): break\n"
    )
    assert one("cancel_event", SHAPE, text)[0].state == ALREADY


# the other places --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "value"),
    [
        ("raise f'no {d[\"k\"]!r:>{w}}'", "no    'v'"),
        ("raise ('a' 'b')", "ab"),
        ("raise (\n            'a'  # one\n            'b'\n        )", "ab"),
        ("raise('a %s' % w)", "a 6"),
        ("raise 'a {}'.format(w)", "a 6"),
        ("raise 'a' + str(w) from None", "a6"),
        ("raise (('a'))", "a"),
    ],
)
def test_strings_that_were_raised(raised, value):
    text = f"class MeshRender:\n    def f(self, w=6, d={{'k': 'v'}}):\n        {raised}\n"
    after = applied("raised_strings", RENDER, text)
    assert ("# one" in after) == ("# one" in text)
    space: dict = {}
    exec(after, space)
    with pytest.raises(ValueError) as error:
        space["MeshRender"]().f()
    assert str(error.value) == value


def test_devices_are_chosen_when_the_line_runs(monkeypatch):
    """A default is fixed at import, before the user can hide the GPU: it is decided in the function instead."""
    import torch

    text = (
        '"""Doc."""\nfrom __future__ import annotations\n'
        "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n"
        "def late():\n    import torch\n\n"
        "class MeshRender:\n"
        "    def __init__(self, size=1, device: str = 'cuda', *, other=None):\n"
        '        """Make."""\n        self.device: str = device\n'
        "    def a(self): return torch.device('cuda')\n"
        "    def b(self): return torch.zeros(1).cuda().device\n"
        "    def c(self): return torch.zeros(1, device='cuda:0').to('cuda').device\n"
        "    def d(self, device=torch.device('cuda')): return device\n"
        "    def e(self): return self.device == 'cuda'\n"
    )
    after = applied("texgen_devices", RENDER, text)
    assert after.startswith('"""Doc."""\nfrom __future__ import annotations\nimport torch\n')
    space: dict = {"__name__": "patched"}
    exec(compile(after, RENDER, "exec"), space)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    made = space["MeshRender"]()
    assert made.device == "cpu"
    assert space["MeshRender"](1, "meta").device == "meta"
    assert {str(made.a()), str(made.b()), str(made.c()), str(made.d())} == {"cpu"}
    assert space["MeshRender"].__init__.__doc__ == "Make."
    assert "self.device == 'cuda'" in after


@pytest.mark.parametrize(
    "line",
    [
        "from .mesh_processor import meshVerticeInpaint  # slow",
        "from .mesh_processor import (\n    meshVerticeInpaint,\n    other)",
        "from hy3dgen.texgen.differentiable_renderer.mesh_processor import meshVerticeInpaint",
        "if True:\n    from .mesh_processor import meshVerticeInpaint as fill",
        "from . import x; from .mesh_processor import meshVerticeInpaint",
    ],
)
def test_compiled_inpainting_is_tried_first(line):
    after = applied("vertex_inpaint_compiled", RENDER, f"import numpy\n{line}\n\nclass MeshRender: x = 1\n")
    assert after.index("    from mesh_processor import") < after.index("except ImportError")
    assert "class MeshRender: x = 1" in after


@pytest.mark.parametrize(
    "text",
    [
        "import torch.nn.functional as F\n\n"
        "def attention(q, k, v, **kw):\n    return F.scaled_dot_product_attention(q, k, v)\n",
        "import torch\n\n"
        "def attention(q, k, v, **kw):\n    return torch.nn.functional.scaled_dot_product_attention(q, k, v)\n",
        "try:\n    from sageattention import sageattn as scaled_dot_product_attention\nexcept ImportError:\n"
        "    from torch.nn.functional import scaled_dot_product_attention\n\n"
        "def attention(q, k, v, **kw):\n    return scaled_dot_product_attention(q, k, v)\n",
    ],
)
def test_attention_is_found_under_its_full_name(text, monkeypatch):
    import torch

    space: dict = {}
    monkeypatch.setenv("ATTN_BACKEND", "sdpa")
    exec(applied("attention_backend", DENOISER, text), space)
    q, k, v = torch.randn(3, 1, 2, 5, 8)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(space["attention"](q, k, v), wanted)


@pytest.mark.parametrize(
    ("scale", "state"),
    [
        ("torch.tensor(resolution, dtype=points[0].dtype)", APPLIES),
        ("torch.tensor(resolution, dtype=torch.long)", APPLIES),
        ("torch.tensor(resolution, dtype=torch.float32)", ALREADY),
        ("torch.tensor(resolution, dtype=latents.dtype)", ALREADY),
        ("resolution * points.float()", ALREADY),
    ],
)
def test_coordinates_of_forks(scale, state):
    text = (
        "import torch\nclass HierarchicalVolumeDecoding:\n    def __call__(self, latents, resolution):\n"
        "        points = torch.stack(torch.where(latents > 0), 1)\n"
        "        filler = torch.tensor(-10000., dtype=grid_logits.dtype)\n"
        f"        return points * {scale}\n"
    )
    finding, after = one("hierarchical_coordinates", VOLUME, text)
    assert finding.state == state, finding.why
    assert "dtype=grid_logits.dtype" in after


def test_offloaded_shape_calls_run_where_their_parts_run():
    text = (
        "class Hunyuan3DDiTPipeline:\n"
        "    @property\n    def _execution_device(self):\n        return 'gpu' if self.components else 'cpu'\n"
        "    model, vae, device = 1, 2, 'cpu'\n"
        "class Hunyuan3DDiTFlowMatchingPipeline(Hunyuan3DDiTPipeline):\n"
        "    def __call__(self):\n        device = self.device\n        return device\n"
    )
    space: dict = {}
    exec(applied("shape_cpu_offload", SHAPE, text), space)
    assert space["Hunyuan3DDiTFlowMatchingPipeline"]()() == "gpu"


def test_comments_stay_with_their_parameters():
    """The separator of another parameter is copied without the comment that stands behind it."""
    text = (
        "class Hunyuan3DDiTPipeline:\n    def __call__(\n"
        "        self,  # me\n        x,  # picture\n        n=3  # steps\n"
        "    ):\n        for t in timesteps:\n            pass\n"
    )
    after = applied("cancel_event", SHAPE, text)
    for comment, owner in (("# me", "self,"), ("# picture", "x,"), ("# steps", "n=3,")):
        assert after.count(comment) == 1
        assert f"{owner}  {comment}\n" in after
    assert "        cancel_event=None\n    ):" in after


# bytes -------------------------------------------------------------------------------------------------------------

RAISES = "class MeshRender:\n    def f(self):\n        raise 'x'\n"


@pytest.mark.parametrize(
    "data",
    [
        b"#!/usr/bin/env python\n# -*- coding: latin-1 -*-\nname = 'caf\xe9'\n" + RAISES.encode(),
        b"\xef\xbb\xbf#!/usr/bin/env python\r\n" + RAISES.replace("\n", "\r\n").encode(),
        b"x = 1\n\x0c\n" + RAISES.encode(),
        RAISES.replace("\n", "\r\n").encode() + b"y = 1\n\tz = 1\r\n".replace(b"\t", b""),
        RAISES.replace("        ", "\t\t").replace("    ", "\t").encode() + b"def g():\n  return 1\n",
        RAISES.encode() + b"z = 'no line end'",
        RAISES.encode() + b"# trailing spaces   \n\n\n",
    ],
    ids=["latin-1", "mark and CRLF", "form feed", "mixed ends", "mixed indents", "no end", "spaces"],
)
def test_only_the_statement_changes(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, RENDER)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        work = Work(Tree(Path(folder)))
        whole = load("raised_strings")
        found = work.run(whole)
        after = work.now[RENDER]
        assert found[-1].state == APPLIES, found[-1].why
        assert after == data.replace(b"raise 'x'", b"raise ValueError('x')")


def test_future_import_behind_a_docstring_on_one_line():
    """`import torch` may not come before it: such a file would compile no more."""
    text = '"""Doc."""; from __future__ import annotations\nclass MeshRender:\n    def f(self, device="cuda"): pass\n'
    finding, _ = one("texgen_devices", RENDER, text)
    assert finding.state in (APPLIES, NO_FIT)


@pytest.mark.parametrize(
    "text",
    [
        "class UNet2p5DConditionModel:\n    def forward(*args, **kw):\n        if 'condition_embed_dict' in kw: pass\n",
        "class UNet2p5DConditionModel: pass\n",
        "class UNet2p5DConditionModel:\n    def forward(self, x): return x\n",
    ],
)
def test_odd_networks_are_refused_with_a_reason(text):
    finding, _ = one("reference_cache", NETWORK, text)
    assert finding.state == NO_FIT
    assert "please report" not in finding.why
