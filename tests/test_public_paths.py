"""Every name that existing scripts import from this package, and the parameters that they call it with."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from hy3dgen.errors import UsageError

SHAPE, MODELS = "hy3dgen.shapegen", "hy3dgen.shapegen.models"
DENOISERS, CODERS = f"{MODELS}.denoisers", f"{MODELS}.autoencoders"
TEX = "hy3dgen.texgen"
RENDER = f"{TEX}.differentiable_renderer"

NAMES: dict[str, str] = {
    "hy3dgen": "generate Result __version__",
    SHAPE: "Hunyuan3DDiTPipeline Hunyuan3DDiTFlowMatchingPipeline FaceReducer FloaterRemover DegenerateFaceRemover "
    "MeshSimplifier ImageProcessorV2 IMAGE_PROCESSORS DEFAULT_IMAGEPROCESSOR",
    f"{SHAPE}.pipelines": "Hunyuan3DDiTPipeline Hunyuan3DDiTFlowMatchingPipeline export_to_trimesh "
    "instantiate_from_config get_obj_from_str retrieve_timesteps",
    f"{SHAPE}.schedulers": "FlowMatchEulerDiscreteScheduler FlowMatchEulerDiscreteSchedulerOutput "
    "ConsistencyFlowMatchEulerDiscreteScheduler ConsistencyFlowMatchEulerDiscreteSchedulerOutput",
    f"{SHAPE}.preprocessors": "ImageProcessorV2 MVImageProcessorV2 array_to_tensor IMAGE_PROCESSORS "
    "DEFAULT_IMAGEPROCESSOR",
    f"{SHAPE}.postprocessors": "FaceReducer FloaterRemover DegenerateFaceRemover MeshSimplifier load_mesh reduce_face "
    "remove_floater pymeshlab2trimesh trimesh2pymeshlab export_mesh import_mesh mesh_normalize",
    f"{SHAPE}.surface_loaders": "SurfaceLoader SharpEdgeSurfaceLoader normalize_mesh sample_pointcloud load_surface "
    "sharp_sample_pointcloud load_surface_sharpegde",
    f"{SHAPE}.utils": "get_logger logger synchronize_timer smart_load_model",
    MODELS: "ShapeVAE DualImageEncoder SingleImageEncoder DinoImageEncoder CLIPImageEncoder Hunyuan3DDiT",
    f"{MODELS}.conditioner": "get_1d_sincos_pos_embed_from_grid ImageEncoder CLIPImageEncoder DinoImageEncoder "
    "DinoImageEncoderMV build_image_encoder DualImageEncoder SingleImageEncoder",
    DENOISERS: "Hunyuan3DDiT",
    f"{DENOISERS}.hunyuan3ddit": "attention timestep_embedding GELU MLPEmbedder RMSNorm QKNorm SelfAttention "
    "ModulationOut Modulation DoubleStreamBlock SingleStreamBlock LastLayer Hunyuan3DDiT",
    f"{DENOISERS}.hunyuandit": "modulate get_1d_sincos_pos_embed_from_grid Timesteps TimestepEmbedder MLP "
    "CrossAttention Attention HunYuanDiTBlock AttentionPool FinalLayer HunYuanDiTPlain",
    f"{DENOISERS}.moe_layers": "AddAuxiliaryLoss MoEGate MoEBlock",
    CODERS: "CrossAttentionDecoder CrossAttentionProcessor FlashVDMCrossAttentionProcessor "
    "FlashVDMTopMCrossAttentionProcessor ShapeVAE VectsetVAE SurfaceExtractors MCSurfaceExtractor DMCSurfaceExtractor "
    "Latent2MeshOutput HierarchicalVolumeDecoding FlashVDMVolumeDecoding VanillaVolumeDecoder",
    f"{CODERS}.model": "VectsetVAE ShapeVAE DiagonalGaussianDistribution",
    f"{CODERS}.attention_blocks": "FourierEmbedder DropPath MLP QKVMultiheadCrossAttention MultiheadCrossAttention "
    "ResidualCrossAttentionBlock QKVMultiheadAttention MultiheadAttention ResidualAttentionBlock Transformer "
    "CrossAttentionDecoder fps PointCrossAttentionEncoder",
    f"{CODERS}.attention_processors": "CrossAttentionProcessor FlashVDMCrossAttentionProcessor "
    "FlashVDMTopMCrossAttentionProcessor",
    f"{CODERS}.volume_decoders": "extract_near_surface_volume_fn generate_dense_grid_points VanillaVolumeDecoder "
    "HierarchicalVolumeDecoding FlashVDMVolumeDecoding",
    f"{CODERS}.surface_extractors": "Latent2MeshOutput center_vertices SurfaceExtractor MCSurfaceExtractor "
    "DMCSurfaceExtractor SurfaceExtractors",
    "hy3dgen.text2image": "seed_everything HunyuanDiTPipeline",
    "hy3dgen.rembg": "BackgroundRemover",
    TEX: "Hunyuan3DPaintPipeline Hunyuan3DTexGenConfig",
    f"{TEX}.pipelines": "Hunyuan3DPaintPipeline Hunyuan3DTexGenConfig logger",
    f"{TEX}.utils.dehighlight_utils": "Light_Shadow_Remover",
    f"{TEX}.utils.multiview_utils": "Multiview_Diffusion_Net",
    f"{TEX}.utils.uv_warp_utils": "mesh_uv_wrap",
    f"{TEX}.utils.simplify_mesh_utils": "remesh_mesh mesh_simplify_trimesh",
    f"{TEX}.hunyuanpaint.pipeline": "HunyuanPaintPipeline DDIMSolver to_rgb_image",
    f"{TEX}.hunyuanpaint.unet.modules": "UNet2p5DConditionModel Basic2p5DTransformerBlock compute_voxel_grid_mask "
    "compute_multi_resolution_mask compute_discrete_voxel_indice compute_multi_resolution_discrete_voxel_indice",
    f"{RENDER}.mesh_render": "MeshRender stride_from_shape scatter_add_nd_with_count linear_grid_put_2d",
    f"{RENDER}.camera_utils": "transform_pos get_mv_matrix get_orthographic_projection_matrix "
    "get_perspective_projection_matrix",
    f"{RENDER}.mesh_processor": "meshVerticeInpaint meshVerticeInpaint_smooth",
    f"{RENDER}.mesh_utils": "load_mesh save_mesh",
}

# Parameters in order, with the defaults that callers rely on; '*' before a name: only as a keyword, '?': some default.
# 'device' and 'dtype' default to None here, since the machine decides (the reference names a device and float16).
PIPELINE = f"{SHAPE}.pipelines:Hunyuan3DDiTFlowMatchingPipeline"
PAINT = f"{TEX}.pipelines:Hunyuan3DPaintPipeline"
MESH_RENDER = f"{RENDER}.mesh_render:MeshRender"
PAINT_CALL = (
    "image=None, prompt=None, negative_prompt='watermark, ugly, deformed, noisy, blurry, low contrast', "
    "*num_images_per_prompt=1, *guidance_scale=2.0, *output_type='pil', *width=512, *height=512, "
    "*num_inference_steps=28, *return_dict=True"
)
SIGNATURES: dict[str, str] = {
    f"{PIPELINE}.from_pretrained": "model_path, device=None, dtype=None, use_safetensors=True, variant='fp16', "
    "subfolder='hunyuan3d-dit-v2-0'",
    f"{PIPELINE}.from_single_file": "ckpt_path, config_path, device=None, dtype=None, use_safetensors=None",
    f"{PIPELINE}.__init__": "vae, model, scheduler, conditioner, image_processor, device=None, dtype=None",
    f"{PIPELINE}.to": "device=None, dtype=None",
    f"{PIPELINE}.compile": "",
    f"{PIPELINE}.enable_flashvdm": "enabled=True, adaptive_kv_selection=True, topk_mode='mean', mc_algo='mc', "
    "replace_vae=True",
    f"{PIPELINE}.enable_model_cpu_offload": "gpu_id=None, device=None",
    f"{PIPELINE}.set_surface_extractor": "mc_algo",
    f"{PIPELINE}.prepare_image": "image",
    f"{PIPELINE}.encode_cond": "image, additional_cond_inputs, do_classifier_free_guidance, dual_guidance",
    f"{PIPELINE}.prepare_latents": "batch_size, dtype, device, generator, latents=None",
    f"{PIPELINE}.__call__": "image=None, num_inference_steps=50, timesteps=None, sigmas=None, eta=0.0, "
    "guidance_scale=5.0, generator=None, box_v=1.01, octree_resolution=384, mc_level=0.0, mc_algo=None, "
    "num_chunks=8000, output_type='trimesh', enable_pbar=True",
    f"{PIPELINE}._export": "latents, output_type='trimesh', box_v=1.01, mc_level=0.0, num_chunks=20000, "
    "octree_resolution=256, mc_algo='mc', enable_pbar=True",
    f"{SHAPE}.pipelines:instantiate_from_config": "config",
    f"{SHAPE}.pipelines:get_obj_from_str": "string, reload=False",
    f"{SHAPE}.pipelines:export_to_trimesh": "mesh_output",
    f"{SHAPE}.pipelines:retrieve_timesteps": "scheduler, num_inference_steps=None, device=None, timesteps=None, "
    "sigmas=None",
    f"{SHAPE}.utils:smart_load_model": "model_path, subfolder, use_safetensors, variant",
    f"{SHAPE}.preprocessors:ImageProcessorV2.__init__": "size=512, border_ratio=None",
    f"{SHAPE}.preprocessors:ImageProcessorV2.__call__": "image, border_ratio=0.15, to_tensor=True",
    f"{SHAPE}.preprocessors:ImageProcessorV2.load_image": "image, border_ratio=0.15, to_tensor=True",
    f"{SHAPE}.preprocessors:ImageProcessorV2.recenter": "image, border_ratio=0.2",
    f"{SHAPE}.preprocessors:MVImageProcessorV2.__call__": "image_dict, border_ratio=0.15, to_tensor=True",
    f"{SHAPE}.postprocessors:FaceReducer.__call__": "mesh, max_facenum=40000",
    f"{SHAPE}.postprocessors:FloaterRemover.__call__": "mesh",
    f"{SHAPE}.postprocessors:DegenerateFaceRemover.__call__": "mesh",
    f"{SHAPE}.postprocessors:MeshSimplifier.__init__": "executable=None",
    f"{SHAPE}.schedulers:FlowMatchEulerDiscreteScheduler.__init__": "num_train_timesteps=1000, shift=1.0, "
    "use_dynamic_shifting=False",
    f"{SHAPE}.schedulers:FlowMatchEulerDiscreteScheduler.set_timesteps": "num_inference_steps=None, device=None, "
    "sigmas=None, mu=None",
    f"{SHAPE}.schedulers:ConsistencyFlowMatchEulerDiscreteScheduler.__init__": "num_train_timesteps=1000, "
    "pcm_timesteps=50",
    f"{SHAPE}.surface_loaders:SurfaceLoader.__call__": "mesh_or_mesh_path, num_points=None",
    f"{SHAPE}.surface_loaders:load_surface": "mesh, num_points=8192",
    f"{SHAPE}.surface_loaders:normalize_mesh": "mesh, scale=0.9999",
    f"{CODERS}.model:ShapeVAE.enable_flashvdm_decoder": "enabled=True, adaptive_kv_selection=True, topk_mode='mean', "
    "mc_algo='dmc'",
    f"{CODERS}.model:ShapeVAE.from_pretrained": "model_path, device=None, dtype=None, use_safetensors=True, "
    "variant='fp16', subfolder='hunyuan3d-vae-v2-0'",
    f"{CODERS}.attention_blocks:FourierEmbedder.__init__": "num_freqs=6, logspace=True, input_dim=3, "
    "include_input=True, include_pi=True",
    f"{CODERS}.volume_decoders:FlashVDMVolumeDecoding.__init__": "topk_mode='mean'",
    f"{CODERS}.volume_decoders:generate_dense_grid_points": "bbox_min, bbox_max, octree_resolution, indexing='ij'",
    f"{DENOISERS}.hunyuan3ddit:timestep_embedding": "t, dim, max_period=10000, time_factor=1000.0",
    "hy3dgen.rembg:BackgroundRemover.__init__": "use_cpu=True",
    "hy3dgen.rembg:BackgroundRemover.__call__": "image",
    "hy3dgen.text2image:HunyuanDiTPipeline.__init__": "model_path='Tencent-Hunyuan/HunyuanDiT-v1.1-Diffusers-Distilled'"
    ", device=None",
    "hy3dgen.text2image:HunyuanDiTPipeline.__call__": "prompt, seed=0",
    f"{TEX}.pipelines:Hunyuan3DTexGenConfig.__init__": "light_remover_ckpt_path, multiview_ckpt_path, subfolder_name=?",
    f"{PAINT}.from_pretrained": "model_path, subfolder='hunyuan3d-paint-v2-0-turbo'",
    f"{PAINT}.__init__": "config",
    f"{PAINT}.load_models": "",
    f"{PAINT}.enable_model_cpu_offload": "gpu_id=None, device=None",
    f"{PAINT}.render_normal_multiview": "camera_elevs, camera_azims, use_abs_coor=True",
    f"{PAINT}.render_position_multiview": "camera_elevs, camera_azims",
    f"{PAINT}.bake_from_multiview": "views, camera_elevs, camera_azims, view_weights, method=?",
    f"{PAINT}.texture_inpaint": "texture, mask",
    f"{PAINT}.recenter_image": "image, border_ratio=0.2",
    f"{PAINT}.__call__": "mesh, image",
    f"{TEX}.utils.dehighlight_utils:Light_Shadow_Remover.__init__": "config",
    f"{TEX}.utils.dehighlight_utils:Light_Shadow_Remover.recorrect_rgb": "src_image, target_image, alpha_channel, "
    "scale=0.95",
    f"{TEX}.utils.dehighlight_utils:Light_Shadow_Remover.__call__": "image",
    f"{TEX}.utils.multiview_utils:Multiview_Diffusion_Net.__call__": "input_images, control_images, camera_info",
    f"{TEX}.utils.uv_warp_utils:mesh_uv_wrap": "mesh",
    f"{TEX}.hunyuanpaint.pipeline:HunyuanPaintPipeline.__call__": PAINT_CALL,
    f"{TEX}.hunyuanpaint.pipeline:DDIMSolver.__init__": "alpha_cumprods, timesteps=1000, ddim_timesteps=50",
    f"{TEX}.hunyuanpaint.unet.modules:UNet2p5DConditionModel.__init__": "unet",
    f"{TEX}.hunyuanpaint.unet.modules:Basic2p5DTransformerBlock.__init__": "transformer, layer_name, use_ma=True, "
    "use_ra=True, is_turbo=False",
    f"{MESH_RENDER}.__init__": "camera_distance=1.45, camera_type='orth', default_resolution=1024, texture_size=1024, "
    "use_antialias=True, max_mip_level=None, filter_mode='linear', bake_mode='linear', raster_mode='cr', device=None",
    f"{MESH_RENDER}.load_mesh": "mesh, scale_factor=1.15, auto_center=True",
    f"{MESH_RENDER}.save_mesh": "",
    f"{MESH_RENDER}.set_mesh": "vtx_pos, pos_idx, vtx_uv=None, uv_idx=None, scale_factor=1.15, auto_center=True",
    f"{MESH_RENDER}.set_texture": "tex",
    f"{MESH_RENDER}.render_normal": "elev, azim, camera_distance=None, center=None, resolution=None, bg_color=?, "
    "use_abs_coor=False, normalize_rgb=True, return_type='th'",
    f"{MESH_RENDER}.render_position": "elev, azim, camera_distance=None, center=None, resolution=None, bg_color=?, "
    "return_type='th'",
    f"{MESH_RENDER}.render_depth": "elev, azim, camera_distance=None, center=None, resolution=None, return_type='th'",
    f"{MESH_RENDER}.back_project": "image, elev, azim, camera_distance=None, center=None, method=None",
    f"{MESH_RENDER}.bake_texture": "colors, elevs, azims, camera_distance=None, center=None, exp=6, weights=None",
    f"{MESH_RENDER}.fast_bake_texture": "textures, cos_maps",
    f"{MESH_RENDER}.uv_inpaint": "texture, mask",
    f"{RENDER}.camera_utils:get_mv_matrix": "elev, azim, camera_distance, center=None",
    f"{RENDER}.camera_utils:get_orthographic_projection_matrix": "left=-1, right=1, bottom=-1, top=1, near=0, far=2",
}

LEFT_OUT = {
    "custom_rasterizer": "rasterize",
    f"{TEX}.utils.imagesuper_utils": "Image_Super_Net",
    f"{TEX}.utils.alignImg4Tex_utils": "Img2img_Control_Ip_adapter",
    f"{TEX}.utils.counter_utils": "RunningStats",
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in NAMES.items() for name in names.split()]
)
def test_the_name_is_there(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is not None


def find(path: str) -> Any:
    module, _, names = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = inspect.getattr_static(found, name)
    return found.__func__ if isinstance(found, (classmethod, staticmethod)) else found


def parameters(path: str) -> list[inspect.Parameter]:
    found = find(path)
    listed = list(inspect.signature(inspect.unwrap(found)).parameters.values())
    return [p for p in listed if p.name not in ("self", "cls")]


@pytest.mark.parametrize("path", sorted(SIGNATURES))
def test_the_parameters_are_kept(path: str) -> None:
    """Names and order as the reference has them, same defaults; what is new comes after, with a default."""
    given = parameters(path)
    by_name = {p.name: p for p in given}
    positional = [p.name for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    expected = [part.strip() for part in _split(SIGNATURES[path])]
    place = 0
    for part in expected:
        name, _, default = part.lstrip("*").partition("=")
        assert name in by_name, f"{path} lacks '{name}'; it has {list(by_name)}"
        if not part.startswith("*"):
            assert positional[place] == name, f"{path}: '{name}' should be parameter {place}"
            place += 1
        actual = by_name[name].default
        if default == "?":
            assert actual is not inspect.Parameter.empty
        elif default:
            assert actual == eval(default), f"{path}: {name}={actual!r}, expected {default}"  # noqa: S307 - our own table
        elif name not in ("device", "dtype"):
            assert actual is inspect.Parameter.empty or actual is None, f"{path}: {name} has a default"
    for name in positional[place:]:
        assert by_name[name].default is not inspect.Parameter.empty, f"{path}: new parameter '{name}' has no default"


@pytest.mark.parametrize(("module", "name"), LEFT_OUT.items())
def test_what_is_not_carried_says_so_when_it_is_used(module: str, name: str) -> None:
    with pytest.raises((ImportError, UsageError), match=name):
        getattr(importlib.import_module(module), name)()


def _split(words: str) -> list[str]:
    """Split at commas outside quotes."""
    parts, inside, start = [], False, 0
    for index, letter in enumerate(words):
        if letter == "'":
            inside = not inside
        elif letter == "," and not inside:
            parts.append(words[start:index])
            start = index + 1
    return [part for part in [*parts, words[start:]] if part.strip()]
