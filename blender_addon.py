"""Blender 4.2+ add-on: a picture or words to a textured model, or colours for the selected mesh, by the REST server.

Start ``python api_server.py`` (or gradio_app.py), then open the sidebar of the 3D view, tab 'Hunyuan3D'. The whole
add-on is this file and needs nothing but Blender. A thread talks to the server and touches no Blender data; a timer
shows its progress and imports the result.
"""

import http.client
import ipaddress
import json
import tempfile
import textwrap
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, PointerProperty, StringProperty

bl_info = {
    "name": "Hunyuan3D low-VRAM",
    "author": "The Hunyuan3D low-VRAM contributors",
    "version": (0, 1, 0),
    "blender": (4, 2, 0),
    "location": "3D View > Sidebar > Hunyuan3D",
    "description": "Pictures or words to textured models, by a server of your own",
    "category": "Import-Export",
}

ADDRESS = "http://127.0.0.1:8081"
PACKAGE = __package__ or __name__
TICK_S = 0.25
LOOK_S = 0.5
ANSWER_S = 60.0
PATIENCE = 20  # looks at a server that does not answer before giving up
FINAL = ("done", "failed", "cancelled")
PANEL_CHARACTERS = 42


# ---- the server ----


class ServerError(Exception):
    """Why the server did not do it, in a sentence for the panel. ``status`` is 0 when it did not answer."""

    def __init__(self, words, status=0):
        super().__init__(words)
        self.status = status


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token must not travel to another server."""

    def redirect_request(self, *_arguments):
        return None


class Client:
    """The few routes of the REST API that the add-on needs. Knows nothing of Blender; may be used by any thread."""

    def __init__(self, address, token=""):
        parts = urllib.parse.urlsplit(address.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServerError(f"The server's address is '{address}'; give one such as {ADDRESS}.")
        self.address, self.token = address.strip().rstrip("/"), token.strip()
        handlers = [_NoRedirects()]
        if is_local(self.address):
            handlers.append(urllib.request.ProxyHandler({}))  # no proxy knows this machine
        self._opener = urllib.request.build_opener(*handlers)

    def make(self, fields, files):
        """Send a job; returns it. fields: {name: words}; files: {name: (file name, bytes)}"""
        boundary = uuid.uuid4().hex
        body = multipart(fields, files, boundary)
        return self._json("POST", "/v1/jobs", body, f"multipart/form-data; boundary={boundary}")

    def job(self, identity):
        """The job as it is now."""
        return self._json("GET", f"/v1/jobs/{identity}")

    def cancel(self, identity):
        """Ask for the end of a job; one that has ended already is no error."""
        try:
            self._json("POST", f"/v1/jobs/{identity}/cancel", b"")
        except ServerError as error:
            if error.status != 409:
                raise

    def server(self):
        """What the server can do."""
        return self._json("GET", "/v1/server")

    def result(self, identity):
        """The GLB."""
        return self._ask("GET", f"/v1/jobs/{identity}/result?format=glb")

    def _json(self, method, path, body=None, content_type=None):
        try:
            return json.loads(self._ask(method, path, body, content_type))
        except ValueError as error:
            raise ServerError(f"What answers at {self.address} is no Hunyuan3D low-VRAM server.") from error

    def _ask(self, method, path, body=None, content_type=None):
        request = urllib.request.Request(self.address + path, data=body, method=method)
        if content_type:
            request.add_header("Content-Type", content_type)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with self._opener.open(request, timeout=ANSWER_S) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise ServerError(_problem_words(error), error.code) from error
        # URLError is an OSError; ValueError for impossible headers; HTTPException for answers that break off.
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(
                f"No server answers at {self.address} ({reason}). Start it with: python api_server.py"
            ) from error


def is_local(address):
    """Whether an address is on this machine."""
    host = urllib.parse.urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def multipart(fields, files, boundary):
    """The body of a form with files. Names of fields are ours; file names are reduced to harmless characters."""
    parts = []
    for name, value in fields.items():
        parts += [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()]
    for name, (filename, content) in files.items():
        safe = "".join(c if c.isalnum() or c in "._- " else "_" for c in filename) or "file"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{safe}"\r\n'
        parts += [f"{head}Content-Type: application/octet-stream\r\n\r\n".encode(), content, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()])


def _problem_words(error):
    if error.code == 401:
        return "The server asks for a token, or does not accept this one: see the add-on's preferences."
    try:
        return str(json.loads(error.read())["detail"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"The server answered with status {error.code}."


# ---- one job, followed by a thread ----


class Follower:
    """Sends a job and follows it to its end in a thread. The timer reads the attributes; only the thread sets them.

    words: what to show; fraction: 0 to 1; is_over: nothing more will change; error: None or a sentence; glb: the result
    """

    def __init__(self, client, fields, files, place):
        self.words, self.fraction, self.is_over = "Sending…", 0.0, False
        self.error, self.glb, self.is_cancelled = None, None, False
        self.place = place
        self._client, self._fields, self._files = client, fields, files
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hy3dgen", daemon=True)
        self._thread.start()

    def cancel(self):
        """Ask for the end; the thread tells the server."""
        self._stop.set()

    def _run(self):
        try:
            self._follow()
        except ServerError as error:
            self.error = str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is must reach the panel, and the timer must end
            self.error = f"{type(error).__name__}: {error}"
        self.is_over = True

    def _follow(self):
        job = self._client.make(self._fields, self._files)
        told, silent = False, 0
        while job["status"] not in FINAL:
            if self._stop.is_set() and not told:
                self._client.cancel(job["id"])
                told = True
            self.words, self.fraction = progress_words(job, told)
            # Once told, the event stays set, so waiting for it would not wait.
            threading.Event().wait(LOOK_S) if told else self._stop.wait(LOOK_S)
            try:
                job, silent = self._client.job(job["id"]), 0
            except ServerError as error:
                silent += 1
                if error.status or silent >= PATIENCE:
                    raise
                self.words = "The server does not answer; trying again…"
        if job["status"] == "failed":
            raise ServerError(job["error"]["detail"] if job["error"] else "The job failed.")
        self.is_cancelled = job["status"] == "cancelled" or self._stop.is_set()
        if not self.is_cancelled:
            self.words, self.fraction = "Fetching the model…", 1.0
            self.glb = self._client.result(job["id"])


def progress_words(job, is_cancelling=False):
    """(what to show, fraction) of a job that has not ended."""
    progress = job["progress"]
    fraction = progress["fraction"] if progress else 0.0
    if is_cancelling:
        return "Cancelling…", fraction
    if job["status"] == "queued":
        return f"Waiting: number {job['queue']['position'] if job['queue'] else 1} in the queue", 0.0
    if not progress or not progress["stage"]:
        return "Starting…", fraction
    left_s = progress["remaining_s"]
    left = "" if left_s is None else f", about {left_s:.0f} s left"
    return f"{progress['stage'].capitalize()} ({progress['elapsed_s']:.0f} s{left})", fraction


# ---- Blender: what is set ----


class HY3DGEN_Preferences(bpy.types.AddonPreferences):
    """Where the server is. Kept out of .blend files, which are given away."""

    bl_idname = PACKAGE
    address: StringProperty(name="Server", description="Address of the server", default=ADDRESS)
    token: StringProperty(name="Token", description="What the server was given as --token", subtype="PASSWORD")

    def draw(self, _context):
        self.layout.prop(self, "address")
        self.layout.prop(self, "token")
        self.layout.operator("hy3dgen.check")


class HY3DGEN_Settings(bpy.types.PropertyGroup):
    """What to make."""

    source: EnumProperty(
        name="From",
        items=[("PICTURE", "Picture", "One picture of an object"), ("TEXT", "Text", "Words, if the server can")],
    )
    image_path: StringProperty(name="Picture", description="The object, seen from its front", subtype="FILE_PATH")
    prompt: StringProperty(name="Text", description="What to make, in a few words", maxlen=500)
    texture: BoolProperty(name="Colours", description="Colour the model; without it, the bare shape", default=True)
    faces: IntProperty(name="Faces", description="Most faces; 0 for the model's own", min=0, max=2_000_000)
    seed: IntProperty(name="Seed", description="-1 for the model's own", default=-1, min=-1)
    steps: IntProperty(name="Steps", description="Sampling steps; 0 for the model's own", min=0, max=200)
    resolution: IntProperty(
        name="Resolution", description="Octree resolution of the shape; 0 for the model's own", min=0, max=512
    )
    texture_size: IntProperty(name="Texture size", description="Pixels; 0 for the default", min=0, max=4096)


class HY3DGEN_State(bpy.types.PropertyGroup):
    """What the panel shows; error and message stay until the next job."""

    error: StringProperty()
    message: StringProperty()


_running: list[Follower] = []  # the job under way: one at most


def preferences():
    """The add-on's preferences."""
    return bpy.context.preferences.addons[PACKAGE].preferences


def client():
    """The client for the server that is set. Raises ServerError."""
    own = preferences()
    made = Client(own.address, own.token)
    if not is_local(made.address) and not getattr(bpy.app, "online_access", True):
        raise ServerError("Blender's preferences forbid online access: allow it under System, or use a local server.")
    return made


def option_fields(settings, *, has_shape):
    """Form fields of what was set; what was left alone is the server's to choose."""
    named = {"faces": settings.faces, "texture_size": settings.texture_size}
    if has_shape:
        named |= {"steps": settings.steps, "octree_resolution": settings.resolution}
    fields = {name: str(value) for name, value in named.items() if value > 0}
    if settings.seed >= 0:
        fields["seed"] = str(settings.seed)
    if has_shape and not settings.texture:
        fields["texture"] = "none"
    return fields | {"formats": "glb", "units": "m", "up": "y", "origin": "base" if has_shape else "keep"}


def source_of(settings):
    """(fields, files) of the picture or the words. Raises ServerError with what is missing."""
    if settings.source == "TEXT":
        if not settings.prompt.strip():
            raise ServerError("Say in a few words what to make.")
        return {"text": settings.prompt.strip()}, {}
    if not settings.image_path.strip():
        raise ServerError("Choose a picture first.")
    path = Path(bpy.path.abspath(settings.image_path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ServerError(f"The picture cannot be read: {path} ({error.strerror or error}).") from error
    return {"name": path.stem[:80]}, {"image": (path.name, content)}


def exported(context, source):
    """The mesh object ``source`` as GLB bytes, in world space, modifiers applied."""
    before = [other for other in context.selected_objects if other != source]
    for other in before:
        other.select_set(False)
    try:
        with tempfile.TemporaryDirectory(prefix="hy3dgen-") as folder:
            path = Path(folder) / "mesh.glb"
            bpy.ops.export_scene.gltf(
                filepath=str(path), export_format="GLB", use_selection=True, export_apply=True, export_yup=True,
                export_animations=False, export_materials="NONE",
            )  # fmt: skip
            return path.read_bytes()
    except (RuntimeError, OSError) as error:
        raise ServerError(f"The mesh cannot be exported: {error}") from error
    finally:
        for other in before:
            other.select_set(True)


def imported(context, content, place):
    """Import GLB bytes; returns the new objects. place: ('CURSOR', None), or ('SAME', name of the mesh it replaces)"""
    known = set(bpy.data.objects)
    with tempfile.TemporaryDirectory(prefix="hy3dgen-") as folder:
        path = Path(folder) / "result.glb"
        path.write_bytes(content)
        bpy.ops.import_scene.gltf(filepath=str(path))
    made = [found for found in bpy.data.objects if found not in known]
    for image in bpy.data.images:  # the file they came from is about to go
        if image.packed_file is None and image.filepath.startswith(tempfile.gettempdir()):
            image.pack()
    where, name = place
    if where == "CURSOR":
        for root in (found for found in made if found.parent is None):
            root.location = context.scene.cursor.location + root.location
    elif name in bpy.data.objects:  # it may have been deleted since
        bpy.data.objects[name].hide_set(True)
    return made


# ---- Blender: what can be pressed ----


def start(context, fields, files, place):
    """Begin a job and the timer that watches it. Raises ServerError."""
    state = context.window_manager.hy3dgen
    state.error = state.message = ""
    _running[:] = [Follower(client(), fields, files, place)]
    if not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, first_interval=TICK_S, persistent=True)


def tick():
    """The timer: show progress; at the end import what came. Returns seconds to the next call, None to stop."""
    if not _running:
        return None
    follower, context = _running[0], bpy.context
    state = context.window_manager.hy3dgen
    if follower.is_over:
        _running.clear()
        try:
            finish(context, follower, state)
        except Exception as error:  # noqa: BLE001 - a timer's error would only reach the system console
            state.error = f"The model could not be imported: {error}"
    redraw(context)
    return TICK_S if _running else None


def finish(context, follower, state):
    """What to do with a job that has ended."""
    if follower.error:
        state.error = follower.error
    elif follower.is_cancelled:
        state.message = "Cancelled."
    else:
        made = imported(context, follower.glb, follower.place)
        faces = sum(len(found.data.polygons) for found in made if found.type == "MESH")
        state.message = f"Imported {', '.join(found.name for found in made)}: {faces:,} faces."
        if not bpy.app.background:
            bpy.ops.ed.undo_push(message="Hunyuan3D")


def redraw(context):
    """Have the sidebars drawn again."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


class _Starter:
    """An operator that begins a job; what is missing is shown in the panel and in the status bar."""

    @classmethod
    def poll(cls, context):
        return not _running

    def execute(self, context):
        try:
            self.begin(context)
        except ServerError as error:
            context.window_manager.hy3dgen.error = str(error)
            self.report({"WARNING"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class HY3DGEN_OT_make(_Starter, bpy.types.Operator):
    """Make a model from the picture or the words, and import it at the 3D cursor"""

    bl_idname = "hy3dgen.make"
    bl_label = "Make 3D model"

    def begin(self, context):
        settings = context.scene.hy3dgen
        fields, files = source_of(settings)
        start(context, fields | option_fields(settings, has_shape=True), files, ("CURSOR", None))


class HY3DGEN_OT_texture(_Starter, bpy.types.Operator):
    """Colour the active mesh from the picture or the words; the coloured copy takes its place, the mesh is hidden"""

    bl_idname = "hy3dgen.texture"
    bl_label = "Colour the selected mesh"

    @classmethod
    def poll(cls, context):
        chosen = context.active_object
        return not _running and chosen is not None and chosen.type == "MESH" and chosen.select_get()

    def begin(self, context):
        if context.mode != "OBJECT":
            raise ServerError("Leave edit mode first: only then are the changes in the mesh.")
        settings, chosen = context.scene.hy3dgen, context.active_object
        fields, files = source_of(settings)
        fields = fields | option_fields(settings, has_shape=False) | {"name": chosen.name[:80]}
        start(context, fields, files | {"mesh": ("mesh.glb", exported(context, chosen))}, ("SAME", chosen.name))


class HY3DGEN_OT_cancel(bpy.types.Operator):
    """Stop the job within one step"""

    bl_idname = "hy3dgen.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context):
        return bool(_running)

    def execute(self, context):
        _running[0].cancel()
        return {"FINISHED"}


class HY3DGEN_OT_check(bpy.types.Operator):
    """See whether the server answers, and with what"""

    bl_idname = "hy3dgen.check"
    bl_label = "Check the server"

    def execute(self, context):
        state = context.window_manager.hy3dgen
        state.error = state.message = ""
        try:
            facts = client().server()
            state.message = f"hy3dgen {facts['version']}, model {facts['model']}, {facts['status']}"
        except (ServerError, KeyError, TypeError) as error:
            state.error = str(error) if isinstance(error, ServerError) else "This is no Hunyuan3D low-VRAM server."
            self.report({"WARNING"}, state.error)
            return {"CANCELLED"}
        self.report({"INFO"}, state.message)
        return {"FINISHED"}


class HY3DGEN_PT_panel(bpy.types.Panel):
    """The sidebar's tab."""

    bl_label = "Hunyuan3D low-VRAM"
    bl_idname = "HY3DGEN_PT_panel"
    bl_space_type, bl_region_type, bl_category = "VIEW_3D", "UI", "Hunyuan3D"

    def draw(self, context):
        layout, settings, state = self.layout, context.scene.hy3dgen, context.window_manager.hy3dgen
        layout.use_property_split = True
        layout.prop(settings, "source", expand=True)
        layout.prop(settings, "prompt" if settings.source == "TEXT" else "image_path")
        for name in ("texture", "faces", "texture_size", "seed", "steps", "resolution"):
            layout.prop(settings, name)
        if _running:
            self.draw_progress(layout, _running[0])
        else:
            layout.operator("hy3dgen.make", icon="MESH_MONKEY")
            layout.operator("hy3dgen.texture", icon="TEXTURE")
        draw_words(layout, state.error, alert=True)
        draw_words(layout, state.message)

    def draw_progress(self, layout, follower):
        layout.progress(factor=follower.fraction, text=follower.words)
        layout.operator("hy3dgen.cancel", icon="CANCEL")


def draw_words(layout, words, alert=False):
    """A sentence over as many lines as it needs: labels do not wrap."""
    if not words:
        return
    box = layout.box()
    box.alert = alert
    for at, line in enumerate(textwrap.wrap(words, PANEL_CHARACTERS)):
        box.label(text=line, icon="ERROR" if alert and at == 0 else "NONE")


CLASSES = (
    HY3DGEN_Preferences, HY3DGEN_Settings, HY3DGEN_State, HY3DGEN_OT_make, HY3DGEN_OT_texture, HY3DGEN_OT_cancel,
    HY3DGEN_OT_check, HY3DGEN_PT_panel,
)  # fmt: skip


def register():
    """Called by Blender when the add-on is switched on."""
    for one in CLASSES:
        bpy.utils.register_class(one)
    bpy.types.Scene.hy3dgen = PointerProperty(type=HY3DGEN_Settings)
    bpy.types.WindowManager.hy3dgen = PointerProperty(type=HY3DGEN_State)


def unregister():
    """Called by Blender when it is switched off; a running job is cancelled."""
    for follower in _running:
        follower.cancel()
    _running.clear()
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)
    del bpy.types.Scene.hy3dgen, bpy.types.WindowManager.hy3dgen
    for one in reversed(CLASSES):
        bpy.utils.unregister_class(one)
