"""Synthetic upstream trees: our own code with the names and structure that the patches look for."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "hy3dgen/__init__.py": "",
    "hy3dgen/rembg.py": """\
# a header comment
from PIL import Image
from rembg import remove, new_session


class BackgroundRemover():
    def __init__(self):
        self.session = new_session()

    def __call__(self, image: Image.Image):
        output = remove(image, session=self.session, bgcolor=[255, 255, 255, 0])  # white
        return output
""",
    "hy3dgen/texgen/utils/dehighlight_utils.py": """\
import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionInstructPix2PixPipeline


class Light_Shadow_Remover():
    def __init__(self, config):
        self.device = config.device
        self.cfg_image = 1.5
        self.cfg_text = 1.0

        pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            config.light_remover_ckpt_path,
            torch_dtype=torch.float16,
            safety_checker=None,
        )
        pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)

        self.pipeline = pipeline.to(self.device, torch.float16)

    @torch.no_grad()
    def __call__(self, image):
        image = self.pipeline(
            prompt="",
            image=image,
            generator=torch.manual_seed(42),
            height=512,
            width=512,
            num_inference_steps=50,
            image_guidance_scale=self.cfg_image,
            guidance_scale=self.cfg_text,
        ).images[0]
        return image
""",
    "hy3dgen/texgen/utils/multiview_utils.py": """\
import os
import torch
from diffusers import DiffusionPipeline, EulerAncestralDiscreteScheduler, LCMScheduler


class Multiview_Diffusion_Net():
    def __init__(self, config) -> None:
        self.device = config.device
        self.view_size = 512
        multiview_ckpt_path = config.multiview_ckpt_path
        custom = os.path.join(os.path.dirname(__file__), '..', 'hunyuanpaint')

        pipeline = DiffusionPipeline.from_pretrained(
            multiview_ckpt_path,
            custom_pipeline=custom, torch_dtype=torch.float16)

        if config.pipe_name in ['hunyuanpaint']:
            pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(
                pipeline.scheduler.config, timestep_spacing='trailing')
        elif config.pipe_name in ['hunyuanpaint-turbo']:
            pipeline.scheduler = LCMScheduler.from_config(
                pipeline.scheduler.config, timestep_spacing='trailing')
            pipeline.set_turbo(True)

        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline.to(self.device)

    def __call__(self, input_images, control_images, camera_info):
        kwargs = dict(generator=torch.Generator(device=self.pipeline.device).manual_seed(0))
        kwargs["camera_info_gen"] = [camera_info]
        mvd_image = self.pipeline(input_images, num_inference_steps=30, **kwargs).images
        return mvd_image
""",
    "hy3dgen/texgen/pipelines.py": """\
import logging
import torch

logger = logging.getLogger(__name__)


class Hunyuan3DTexGenConfig:

    def __init__(self, light_remover_ckpt_path, multiview_ckpt_path, subfolder_name):
        self.device = 'cuda'
        self.light_remover_ckpt_path = light_remover_ckpt_path
        self.multiview_ckpt_path = multiview_ckpt_path
        self.candidate_camera_azims = [0, 90, 180, 270, 0, 180]
        self.render_size = 2048
        self.merge_method = 'fast'
        self.pipe_dict = {'hunyuan3d-paint-v2-0': 'hunyuanpaint'}
        self.pipe_name = self.pipe_dict[subfolder_name]


class Hunyuan3DPaintPipeline:
    def __init__(self, config):
        self.config = config
        self.models = {}

    def bake_from_multiview(self, views, method='graphcut'):
        if method == 'fast':
            return views
        else:
            raise f'no method {method}'
""",
    "hy3dgen/texgen/hunyuanpaint/pipeline.py": """\
import torch


class HunyuanPaintPipeline:
    def __init__(self, vae, unet, scheduler):
        self.unet = unet
        self.solver = DDIMSolver(scheduler).to('cuda')

    def __call__(self, image=None, *args, num_inference_steps=28, **cached_condition):
        def convert(images):
            return [picture.half().to("cuda") for picture in images]

        return self.denoise(None, num_inference_steps=num_inference_steps, **cached_condition)

    def denoise(
        self,
        prompt=None,
        num_inference_steps: int = 50,
        callback=None,
        **kwargs,
    ):
        timesteps = range(num_inference_steps)
        latents = kwargs["latents"]
        with self.progress_bar(total=num_inference_steps) as progress_bar:
            for i, t in enumerate(timesteps):
                # one step
                noise_pred = self.unet(
                    latents,
                    t,
                    encoder_hidden_states=prompt,
                    return_dict=False, **kwargs
                )[0]
                latents = latents + noise_pred
        return latents


class DDIMSolver:
    def __init__(self, scheduler):
        self.device = None

    def to(self, device):
        self.device = device
        return self
""",
    "hy3dgen/texgen/hunyuanpaint/unet/modules.py": """\
import torch


class UNet2p5DConditionModel(torch.nn.Module):
    def __init__(self, unet, unet_dual):
        super().__init__()
        self.unet = unet
        self.unet_dual = unet_dual
        self.is_turbo = False

    def forward(self, sample, timestep, encoder_hidden_states, *args, down_block_res_samples=None, **cached_condition):
        B = sample.shape[0]
        if 'condition_embed_dict' in cached_condition:
            condition_embed_dict = cached_condition['condition_embed_dict']
        else:
            condition_embed_dict = {}
            ref_latents = cached_condition['ref_latents']
            unet_ref = self.unet_dual
            unet_ref(ref_latents, condition_embed_dict)
            cached_condition['condition_embed_dict'] = condition_embed_dict
        return (self.unet(sample, condition_embed_dict),)
""",
    "hy3dgen/texgen/differentiable_renderer/mesh_render.py": """\
import torch
import numpy as np

# the inpainting
from .mesh_processor import meshVerticeInpaint
from .mesh_utils import load_mesh


class MeshRender():
    def __init__(self, camera_distance=1.45, camera_type='orth', device='cuda'):
        self.device = device
        if camera_type not in ("orth", "perspective"):
            raise f'No camera type {camera_type}'

    def rasterize(self, mode):
        if self.device == 'cuda':
            torch.cuda.synchronize()
        raise (f'No raster named {mode}')
""",
    "hy3dgen/shapegen/pipelines.py": '''\
import torch
from tqdm import tqdm


class Hunyuan3DDiTPipeline:
    model_cpu_offload_seq = "conditioner->model->vae"

    def __init__(self, vae, model, scheduler, conditioner, image_processor, device='cuda', **kwargs):
        self.vae = vae
        self.model = model
        self.scheduler = scheduler
        self.conditioner = conditioner
        self.image_processor = image_processor
        self.kwargs = kwargs

    def enable_model_cpu_offload(self):
        return {name: part for name, part in self.components.items() if isinstance(part, torch.nn.Module)}

    @torch.no_grad()
    def __call__(self, image=None, num_inference_steps: int = 50, **kwargs):
        timesteps = range(num_inference_steps)
        for i, t in enumerate(tqdm(timesteps, desc="Sampling", leave=False)):
            image = image + t
        return image


class Hunyuan3DDiTFlowMatchingPipeline(Hunyuan3DDiTPipeline):

    @torch.inference_mode()
    def __call__(
        self,
        image=None,
        num_inference_steps: int = 50,
        enable_pbar=True,
        **kwargs,
    ):
        """Make a mesh."""
        callback = kwargs.pop("callback", None)
        timesteps = range(num_inference_steps)
        for i, t in enumerate(tqdm(timesteps, disable=not enable_pbar)):
            image = image + t
            if callback is not None:
                callback(i, t, image)
        return image
''',
    "hy3dgen/shapegen/models/denoisers/hunyuan3ddit.py": """\
import math
import os
import torch

scaled_dot_product_attention = torch.nn.functional.scaled_dot_product_attention
if os.environ.get('USE_SAGEATTN', '0') == '1':
    from sageattention import sageattn
    scaled_dot_product_attention = sageattn


def attention(q, k, v, **kwargs):
    return scaled_dot_product_attention(q, k, v)
""",
    "hy3dgen/shapegen/models/autoencoders/attention_processors.py": """\
import os
import torch
from torch.nn.functional import scaled_dot_product_attention

if os.environ.get('CA_USE_SAGEATTN', '0') == '1':
    try:
        from sageattention import sageattn
    except ImportError:
        raise ImportError('install sageattention')
    scaled_dot_product_attention = sageattn


class CrossAttentionProcessor:
    def __call__(self, attn, q, k, v):
        return scaled_dot_product_attention(q, k, v)
""",
    "hy3dgen/shapegen/models/autoencoders/volume_decoders.py": """\
import torch


class HierarchicalVolumeDecoding:
    def __call__(self, latents, geo_decoder, bounds=1.01, octree_resolution=None, **kwargs):
        bbox_min, bbox_size = -bounds, 2 * bounds
        next_index = torch.nonzero(torch.ones(2, 2, 2))
        resolution = bbox_size / octree_resolution
        next_points = next_index * torch.tensor(resolution, dtype=next_index.dtype, device=latents.device)
        next_points = next_points + torch.tensor(bbox_min, dtype=next_index.dtype, device=latents.device)
        scale = torch.tensor(1.0, dtype=latents.dtype)
        return geo_decoder(queries=next_points.to(latents.dtype) * scale, latents=latents)
""",
}


def _edited(**changes: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """FILES with texts replaced; keys name a file by its last part without the ending."""
    files = dict(FILES)
    for key, pairs in changes.items():
        name = next(n for n in files if n.endswith(f"/{key}.py"))
        for old, new in pairs:
            assert old in files[name], (key, old)
            files[name] = files[name].replace(old, new)
    return files


def fork() -> dict[str, str]:
    """Other locals, more arguments, no progress bar lines, annotations, other quotes."""
    return _edited(
        rembg=(
            ("def __init__(self):", "def __init__(self, model_dir=None, *, verbose: bool = False):"),
            ("self.session = new_session()", "self.session = rembg_lib.new_session()"),
            ("from rembg import remove, new_session", "import rembg as rembg_lib\nfrom rembg import remove"),
            ("image: Image.Image", "picture"),
            ("remove(image,", "remove(picture,"),
        ),
        dehighlight_utils=(
            ("def __init__(self, config):", "def __init__(self, cfg, extra=1):"),
            ("config.device", "cfg.device"),
            ("config.light", "cfg.light"),
            ("        pipeline.set_progress_bar_config(disable=True)\n", ""),
            ("        pipeline = Stable", "        pipe = Stable"),
            ("pipeline.scheduler = ", "pipe.scheduler = "),
            ("from_config(pipeline.", "from_config(pipe."),
            ("self.pipeline = pipeline.to", "self.pipeline = pipe.to"),
        ),
        multiview_utils=(("num_inference_steps=30", "num_inference_steps = 15"),),
        modules=(("'condition_embed_dict'", '"condition_embed_dict"'),),
    )


def older() -> dict[str, str]:
    """A release before hierarchical decoding and the paint loop; delight is another model there."""
    files = dict(FILES)
    del files["hy3dgen/shapegen/models/autoencoders/volume_decoders.py"]
    del files["hy3dgen/texgen/hunyuanpaint/unet/modules.py"]
    name = "hy3dgen/texgen/utils/dehighlight_utils.py"
    files[name] = files[name].replace("Light_Shadow_Remover", "Light_Shadow_Remover_V1")
    return files


def tabs() -> dict[str, str]:
    return {name: text.replace("    ", "\t") for name, text in FILES.items()}


def crlf() -> dict[str, str]:
    return {name: text.replace("\n", "\r\n") for name, text in FILES.items()}


def no_final_newline() -> dict[str, str]:
    return {name: text.rstrip("\n") for name, text in FILES.items()}


def byte_order_mark() -> dict[str, str]:
    return {name: "\ufeff" + text if text else text for name, text in FILES.items()}


VARIANTS = {
    "official": lambda: dict(FILES),
    "fork": fork,
    "tabs": tabs,
    "crlf": crlf,
    "no_final_newline": no_final_newline,
    "byte_order_mark": byte_order_mark,
}


def write(folder: Path, files: dict[str, str]) -> Path:
    """Put a tree into ``folder``; returns it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8"))
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` outside .git, by relative path."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
