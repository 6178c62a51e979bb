"""The part of a report that turns meshes: a WebGL viewer of its own, so nothing has to be loaded, and the meshes as it takes them."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from tokkit.geometry.triangles import Array, Indices, weld

MOST_TRIANGLES = 30_000
"""Of a mesh in the page; larger ones have their vertices joined on the finest of these grids that makes them small enough."""
_GRIDS = (512, 384, 256, 192, 128, 96, 64, 48, 32)
_REACH = 1.25
"""Vertices are stored as 16-bit numbers that stand for [-1.25, 1.25]."""


def packed(triangles: Array) -> str:
    """A mesh [F, 3, 3] in [-1, 1] for the attribute `data-mesh`: base64 of deflated u32 V, u32 F, u16 vertices [V, 3], u16 faces [F, 3].

    V is below 2^16 and F at most `MOST_TRIANGLES`.
    """
    vertices, faces = bounded(triangles)
    places = np.rint((vertices / _REACH + 1) * 32767.5).clip(0, 65535).astype("<u2")
    data = struct.pack("<II", len(places), len(faces)) + places.tobytes() + faces.astype("<u2").tobytes()
    return base64.b64encode(zlib.compress(data, 9)).decode()


def bounded(triangles: Array) -> tuple[Array, Indices]:
    """Vertices [V, 3] and faces [F, 3] of a mesh in [-1, 1], at most `MOST_TRIANGLES` of these: as it is, or coarser."""
    vertices, faces = weld(triangles)
    for grid in _GRIDS:
        if len(faces) <= MOST_TRIANGLES and len(vertices) < 2**16:
            break
        vertices, faces = weld(_clustered(triangles, grid))
    return vertices, faces[:MOST_TRIANGLES]


def _clustered(triangles: Array, grid: int) -> Array:
    """The triangles whose corners are in three cells of a grid over [-1, 1], moved to the mean of each cell's corners."""
    corners = triangles.reshape(-1, 3)
    cells = np.floor((corners + 2) * (grid / 2)).astype(np.int64).clip(0, 2**20) @ [2**40, 2**20, 1]
    named, which, count = np.unique(cells, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(which, corners[:, axis], len(named)) for axis in range(3)], axis=1) / count[:, None]
    faces = which.reshape(-1, 3)
    return means[faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]]


BUTTON = '<button class="turn" data-mesh="{mesh}">turn in 3D</button>'

PAGE = """<dialog class="turntable" aria-label="shapes to turn"><div class="bar"><span class="choices"></span>
<span class="hint">drag: turn &middot; wheel: zoom &middot; arrow keys or digits: switch in place</span>
<button class="close">Close (Esc)</button></div><canvas></canvas><p class="told"></p></dialog>
<style>
button.turn { font:inherit; font-size:13px; color:var(--accent); background:none; border:1px solid var(--line); border-radius:6px;
  padding:2px 10px; margin-top:6px; cursor:pointer }
dialog.turntable canvas { width:100vw; height:100vh; display:block; cursor:grab; touch-action:none }
dialog.turntable .told { position:absolute; inset:auto 0 12px 0; text-align:center; margin:0 auto }
</style>
<script>
(() => {
  const dialog = document.querySelector('dialog.turntable'), canvas = dialog.querySelector('canvas');
  const bar = dialog.querySelector('.choices'), told = dialog.querySelector('.told');
  let gl = null, program = null, strip = [], shown = 0, yaw = 0.61, pitch = 0.44, zoom = 1, drag = null;
  const meshes = new Map();
  const vertex = `#version 300 es
    in vec3 at; uniform mat3 turn; uniform vec2 scale; out vec3 seen;
    void main() { seen = turn * ((at * 2.0 - 1.0) * 1.25); gl_Position = vec4(seen.xy * scale, -seen.z / 2.5, 1.0); }`;
  const fragment = `#version 300 es
    precision highp float; in vec3 seen; out vec4 color;
    void main() { vec3 n = normalize(cross(dFdx(seen), dFdy(seen)));
      color = vec4(vec3(0.59, 0.70, 0.87) * (0.3 + 0.7 * abs(dot(n, normalize(vec3(0.35, 0.55, 0.76))))), 1.0); }`;
  const start = () => {
    gl = canvas.getContext('webgl2', { antialias: true });
    if (!gl) { told.textContent = 'this browser has no WebGL 2'; return; }
    program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text); gl.compileShader(shader); gl.attachShader(program, shader);
    }
    gl.linkProgram(program); gl.useProgram(program); gl.enable(gl.DEPTH_TEST);
  };
  const unpack = async text => {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
    const data = await new Response(stream).arrayBuffer();
    const [vertices, faces] = new Uint32Array(data, 0, 2);
    return [new Uint16Array(data, 8, 3 * vertices), new Uint16Array(data, 8 + 6 * vertices, 3 * faces)];
  };
  const mesh = async button => {
    if (!meshes.has(button)) {
      const [places, faces] = await unpack(button.dataset.mesh), array = gl.createVertexArray();
      gl.bindVertexArray(array);
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer()); gl.bufferData(gl.ARRAY_BUFFER, places, gl.STATIC_DRAW);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer()); gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
      const place = gl.getAttribLocation(program, 'at');
      gl.enableVertexAttribArray(place); gl.vertexAttribPointer(place, 3, gl.UNSIGNED_SHORT, true, 0, 0);
      meshes.set(button, [array, faces.length]);
    }
    return meshes.get(button);
  };
  const draw = async () => {
    if (!gl || !dialog.open) return;
    const [array, count] = await mesh(strip[shown]);
    canvas.width = canvas.clientWidth * devicePixelRatio; canvas.height = canvas.clientHeight * devicePixelRatio;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0.043, 0.051, 0.063, 1); gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    const turn = [cy, -sp * sy, cp * sy, 0, cp, sp, -sy, -sp * cy, cp * cy];
    const least = Math.min(canvas.width, canvas.height);
    gl.uniformMatrix3fv(gl.getUniformLocation(program, 'turn'), false, turn);
    gl.uniform2f(gl.getUniformLocation(program, 'scale'), zoom * 0.62 * least / canvas.width, zoom * 0.62 * least / canvas.height);
    gl.bindVertexArray(array); gl.drawElements(gl.TRIANGLES, count, gl.UNSIGNED_SHORT, 0);
    told.textContent = `${count / 3} triangles`;
  };
  const show = index => {
    shown = (index + strip.length) % strip.length;
    [...bar.children].forEach((button, i) => button.setAttribute('aria-pressed', i === shown));
    draw();
  };
  document.querySelectorAll('button.turn').forEach(opener => { opener.onclick = () => {
    strip = [...opener.closest('.strip').querySelectorAll('button.turn')];
    bar.replaceChildren(...strip.map((each, i) => {
      const button = document.createElement('button');
      button.textContent = `${i + 1} ${each.closest('figure').dataset.name}`;
      button.onclick = () => show(i);
      return button;
    }));
    dialog.showModal();
    if (!gl) start();
    show(strip.indexOf(opener));
  }; });
  dialog.querySelector('.close').onclick = () => dialog.close();
  dialog.addEventListener('keydown', event => {
    if (event.key === 'ArrowRight') show(shown + 1);
    else if (event.key === 'ArrowLeft') show(shown - 1);
    else if (event.key >= '1' && event.key <= String(strip.length)) show(Number(event.key) - 1);
    else return;
    event.preventDefault();
  });
  canvas.addEventListener('wheel', event => {
    event.preventDefault(); zoom = Math.min(20, Math.max(0.3, zoom * (event.deltaY < 0 ? 1.15 : 0.87))); draw();
  }, { passive: false });
  canvas.addEventListener('pointerdown', event => { drag = [event.clientX, event.clientY]; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener('pointermove', event => {
    if (!drag) return;
    yaw += (event.clientX - drag[0]) / 150;
    pitch = Math.min(1.57, Math.max(-1.57, pitch + (event.clientY - drag[1]) / 150));
    drag = [event.clientX, event.clientY];
    draw();
  });
  canvas.addEventListener('pointerup', () => { drag = null; });
  addEventListener('resize', draw);
})();
</script>"""
"""Once in a page that has such buttons: a full-screen viewer, all shapes of a case seen from the same side, to switch between."""
