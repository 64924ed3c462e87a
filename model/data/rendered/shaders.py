"""The programs that OpenGL runs (GLSL 3.30): a picture, exact labels, and what the sun sees."""

_MOVE = """
#version 330
uniform mat4 model;
uniform mat4 camera;
uniform vec3 bend;
in vec3 position;

// Twisted about y, then bent along it towards x and z.
vec3 soften(vec3 point) {
    float angle = bend.x * point.y;
    float c = cos(angle), s = sin(angle);
    return vec3(c * point.x + s * point.z, point.y, c * point.z - s * point.x);
}

vec4 move(vec3 point) {
    vec3 soft = soften(point);
    soft.xz += bend.yz * point.y * point.y;
    return model * vec4(soft, 1.0);
}
"""

PICTURE_VERTICES = (
    _MOVE
    + """
uniform mat4 sun_camera;
uniform vec2 scroll;
uniform float repeat;
in vec3 normal;
in vec2 uv;
out vec3 world;
out vec3 facing;
out vec2 spot;
out vec3 lit_from;

void main() {
    vec4 moved = move(position);
    world = moved.xyz;
    // A model scales its three axes unevenly at most for limbs, whose normals may be a little off.
    facing = mat3(model) * soften(normal);
    spot = uv * repeat + scroll;
    lit_from = (sun_camera * moved).xyz * 0.5 + 0.5;
    gl_Position = camera * moved;
}
"""
)

PICTURE_PIXELS = """
#version 330
uniform sampler2D surface;
uniform sampler2DShadow shadow;
uniform vec3 sun;
uniform vec3 sun_color;
uniform vec3 eye;
uniform float glow;
uniform float gloss;
in vec3 world;
in vec3 facing;
in vec2 spot;
in vec3 lit_from;
out vec4 color;

float sunlit(vec3 at) {
    if (any(lessThan(at, vec3(0.0))) || any(greaterThan(at, vec3(1.0)))) return 1.0;
    float step = 0.9 / textureSize(shadow, 0).x, depth = at.z - 0.003;
    return 0.25 * (texture(shadow, vec3(at.xy + vec2(step, step), depth))
        + texture(shadow, vec3(at.xy + vec2(-step, step), depth))
        + texture(shadow, vec3(at.xy + vec2(step, -step), depth))
        + texture(shadow, vec3(at.xy + vec2(-step, -step), depth)));
}

void main() {
    vec3 toward = normalize(eye - world);
    vec3 normal = normalize(facing);
    if (dot(normal, toward) < 0.0) normal = -normal;
    float slope = dot(normal, sun);
    float lit = slope > 0.0 ? sunlit(lit_from) : 0.0;
    vec3 shine = normalize(sun + toward);
    float spark = gloss * lit * pow(max(dot(normal, shine), 0.0), 24.0);
    // Repeated forth and back: a photograph has no seam then.
    vec3 own = texture(surface, 1.0 - abs(mod(spot, 2.0) - 1.0)).rgb;
    vec3 all = own * (glow + sun_color * max(slope, 0.0) * lit) + sun_color * spark;
    color = vec4(all, 1.0);
}
"""

DEPTH_VERTICES = (
    _MOVE
    + """
void main() { gl_Position = camera * move(position); }
"""
)

LABEL_PIXELS = """
#version 330
uniform float label;
out vec4 color;
void main() { color = vec4(label); }
"""

NO_PIXELS = """
#version 330
void main() {}
"""
