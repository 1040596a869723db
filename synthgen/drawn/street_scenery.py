"""Painters of what does not count: ground, houses, barriers, trees, the far end of the street."""

from __future__ import annotations

from math import cos, sin

from synthgen.drawn.street_canvas import Canvas, Colour, Stamp, dim
from synthgen.drawn.street_layout import (
    BACKDROP_M,
    FACADES,
    FAR_M,
    Building,
    Camera,
    Side,
    Street,
    Thing,
)

ROAD, SIDEWALK, BUILDING, WALL, FENCE, VEGETATION, TERRAIN, SKY = 0, 1, 2, 3, 4, 8, 9, 10

_SNOW: Colour = (246, 248, 252)
_LIT: Colour = (255, 212, 116)
_ROOFS: tuple[Colour, ...] = ((150, 66, 48), (96, 84, 84), (120, 92, 72), (78, 84, 96))
_AWNINGS: tuple[Colour, ...] = ((196, 52, 52), (52, 116, 84), (224, 172, 60), (64, 92, 160))


def mix(a: Colour, b: Colour, share: float) -> Colour:
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def ground(canvas: Canvas, street: Street) -> None:
    camera, look, snow = street.camera, street.look, canvas.tint.snow
    near, width, height = camera.ground_m, camera.width_px, camera.height_px
    edge = (camera.vanish_x, camera.horizon_y)
    grass: Colour = (96 + 40 * look[0], 150 + 24 * look[1], 62)
    pavement: Colour = (176 + 24 * look[2], 170 + 20 * look[2], 162)
    asphalt: Colour = (92 + 20 * look[3], 92 + 20 * look[3], 98 + 18 * look[3])
    if snow:
        grass, pavement, asphalt = _SNOW, (234, 236, 243), mix(asphalt, (196, 200, 210), 0.42)
    for side in street.sides:
        border = 0.0 if side.sign < 0 else float(width)
        canvas.begin(SIDEWALK if side.kind == "row" else TERRAIN, surface="ground")
        canvas.poly(
            ((border, edge[1]), edge, (edge[0], height), (border, height)), pavement if side.kind == "row" else grass
        )
        canvas.begin(SIDEWALK, surface="ground")
        _strip(canvas, camera, side.kerb, side.outer, near, FAR_M, pavement)
        for i in range(6):
            z = 2.6 * 1.36**i
            _strip(canvas, camera, side.kerb, side.outer, z, z * 1.02, dim(pavement, 0.88), inside=True)
    left, right = street.sides[0].kerb, street.sides[1].kerb
    canvas.begin(ROAD, surface="ground")
    _strip(canvas, camera, left, right, near, FAR_M, asphalt)
    paint: Colour = mix((240, 240, 234), asphalt, 0.45 if snow else 0.0)
    for kerb, sign in ((left, 1), (right, -1)):
        _strip(
            canvas,
            camera,
            kerb,
            kerb + sign * 0.16,
            near,
            FAR_M,
            mix(asphalt, (214, 210, 204), 0.7),
            inside=True,
        )
        if look[4] < 0.5:
            _strip(canvas, camera, kerb + sign * 0.42, kerb + sign * 0.58, near, 26.0, paint, inside=True)
    middle, zebra = (left + right) / 2, street.crossing_m
    line: Colour = paint if look[5] < 0.75 else mix((240, 196, 60), asphalt, 0.4 if snow else 0.0)
    z = 2.0 + 1.2 * look[6]
    while z < 26.0:
        if not (zebra and zebra - 1.6 < z < zebra + 1.8):
            _strip(
                canvas,
                camera,
                middle - 0.1,
                middle + 0.1,
                max(z, near),
                max(z + 1.7, near),
                line,
                inside=True,
            )
        z += 3.2
    if zebra:
        x = left + 0.45
        while x + 0.42 < right:
            _strip(canvas, camera, x, x + 0.42, zebra, zebra + 1.7, paint, inside=True)
            x += 0.84


def _strip(
    canvas: Canvas, camera: Camera, x0: float, x1: float, z0: float, z1: float, colour: Colour, inside: bool = False
) -> None:
    canvas.poly(
        (camera.at(x0, 0, z0), camera.at(x1, 0, z0), camera.at(x1, 0, z1), camera.at(x0, 0, z1)),
        colour,
        inside=inside,
    )


def backdrop(canvas: Canvas, street: Street) -> None:
    """What closes the street: far houses or a far row of trees, with no gap to the ground."""
    camera, look = street.camera, street.look
    houses = street.backdrop == "buildings"
    k = camera.focal_px / BACKDROP_M
    foot = camera.at(0, 0, BACKDROP_M)[1]
    leaf: Colour = (74, 118, 66)
    if canvas.tint.snow:
        leaf = mix(leaf, _SNOW, 0.55)
    canvas.begin(BUILDING if houses else VEGETATION, depth_m=BACKDROP_M)
    base: Colour = (150, 146, 144) if houses else leaf
    canvas.poly(((0, foot), (camera.width_px, foot), (camera.width_px, foot - 3.4 * k), (0, foot - 3.4 * k)), base)
    x, i = -2.0, 0
    while x < camera.width_px + 2:
        share = look[i % len(look)]
        if houses:
            wide, tall = (6.0 + 6.0 * share) * k, (4.5 + 7.0 * look[(i * 5 + 3) % len(look)]) * k
            colour = mix(FACADES[(i * 3 + int(look[7] * 10)) % len(FACADES)], (150, 160, 175), 0.3)
            canvas.poly(((x, foot), (x + wide, foot), (x + wide, foot - tall), (x, foot - tall)), colour)
            if canvas.tint.snow:
                canvas.poly(
                    (
                        (x, foot - tall),
                        (x + wide, foot - tall),
                        (x + wide, foot - tall + 0.8 * k),
                        (x, foot - tall + 0.8 * k),
                    ),
                    _SNOW,
                    inside=True,
                )
            for j in range(2):
                lit = canvas.tint.windows and (i + j) % 2 == 0
                y = foot - tall + (1.6 + 2.6 * j) * k
                canvas.poly(
                    (
                        (x + wide * 0.25, y),
                        (x + wide * 0.72, y),
                        (x + wide * 0.72, y + 1.3 * k),
                        (x + wide * 0.25, y + 1.3 * k),
                    ),
                    _LIT if lit else dim(colour, 0.7),
                    inside=True,
                    glow=lit,
                )
            x += wide
        else:
            wide = (3.0 + 3.0 * share) * k
            canvas.oval(
                x + wide / 2,
                foot - 3.2 * k,
                wide * 0.85,
                (2.0 + 2.0 * look[(i * 7 + 1) % len(look)]) * k,
                mix(leaf, (120, 160, 84), share * 0.6),
            )
            x += wide
        i += 1


def _wall_quad(
    canvas: Canvas,
    camera: Camera,
    x: float,
    z0: float,
    z1: float,
    y0: float,
    y1: float,
    colour: Colour,
    inside: bool = False,
    glow: bool = False,
) -> None:
    canvas.poly(
        (camera.at(x, y0, z0), camera.at(x, y0, z1), camera.at(x, y1, z1), camera.at(x, y1, z0)),
        colour,
        inside=inside,
        glow=glow,
    )


def houses(canvas: Canvas, camera: Camera, side: Side) -> None:
    x = side.front
    visible = camera.nearest_m(x, 1.12)
    for house in reversed(side.buildings):
        if house.far_m > visible:
            _house(canvas, camera, side, house, visible)


def _house(canvas: Canvas, camera: Camera, side: Side, house: Building, visible: float) -> None:
    x, top, look, lamps = side.front, house.height_m, house.look, canvas.tint.windows
    near = max(house.near_m, visible)
    face: Colour = house.colour if side.sign > 0 else dim(house.colour, 0.86)
    gable = dim(face, 0.8)
    roof = _SNOW if canvas.tint.snow else _ROOFS[int(look[0] * 4) % 4]
    if house.near_m >= visible:
        canvas.begin(BUILDING, depth_m=house.near_m)
        outward = x + side.sign * 9.0
        canvas.poly(
            (
                camera.at(x, 0, near),
                camera.at(outward, 0, near),
                camera.at(outward, top, near),
                camera.at(x, top, near),
            ),
            gable,
        )
        for row in range(int(top / 2.9)):
            y = 0.9 + 2.9 * row
            for column in range(3):
                a = x + side.sign * (0.9 + 2.6 * column)
                lit = lamps and (row * 5 + column * 3 + int(look[2] * 100)) % 5 < 2
                canvas.poly(
                    (
                        camera.at(a, y, near),
                        camera.at(a + side.sign * 1.2, y, near),
                        camera.at(a + side.sign * 1.2, y + 1.5, near),
                        camera.at(a, y + 1.5, near),
                    ),
                    _LIT if lit else (88, 98, 112),
                    inside=True,
                    glow=lit,
                )
        canvas.poly(
            (
                camera.at(x, top - 0.45, near),
                camera.at(outward, top - 0.45, near),
                camera.at(outward, top, near),
                camera.at(x, top, near),
            ),
            roof,
            inside=True,
        )
    canvas.begin(BUILDING, surface="facade", depth_m=x)
    pitched = look[1] < 0.5
    _wall_quad(canvas, camera, x, near, house.far_m, 0, top, face)
    pane: Colour = (74, 88, 106) if look[3] < 0.6 else (120, 140, 158)
    frame = mix(face, (245, 242, 236), 0.5)
    pitch = 2.3 + 0.9 * look[4]
    shop = look[5] < 0.4
    columns = max(1, int((house.far_m - house.near_m - 0.6) / pitch))
    step = (house.far_m - house.near_m) / columns
    wide = step * (0.48 + 0.14 * look[6])
    floors = max(1, int((top - 0.5) / 2.7))
    rise = (top - 0.6) / floors
    for column in range(columns):
        a = house.near_m + step * column + (step - wide) / 2
        b = a + wide
        if b <= near or camera.focal_px * abs(x) * (1 / a - 1 / b) < 0.9:
            continue
        a = max(a, near)
        for row in range(floors):
            y = row * rise
            lit = lamps and (row * 7 + column * 3 + int(look[7] * 100)) % 9 < 4
            if row == 0 and shop:
                _wall_quad(
                    canvas,
                    camera,
                    x,
                    a - wide * 0.2,
                    b + wide * 0.2,
                    0.4,
                    rise - 0.75,
                    _LIT if lamps else (104, 122, 138),
                    True,
                    lamps,
                )
                continue
            if b < 16.0:
                _wall_quad(canvas, camera, x, a - 0.14, b + 0.14, y + rise * 0.26, y + rise * 0.88, frame, True)
            _wall_quad(canvas, camera, x, a, b, y + rise * 0.31, y + rise * 0.82, _LIT if lit else pane, True, lit)
    if shop:
        _wall_quad(canvas, camera, x, near, house.far_m, rise - 0.75, rise - 0.2, _AWNINGS[int(look[8] * 4) % 4], True)
    _wall_quad(canvas, camera, x, near, house.far_m, top - (1.0 if pitched else 0.4), top, roof, True)


def barrier(canvas: Canvas, camera: Camera, side: Side) -> None:
    """A wall or a fence along the outer edge of the walk."""
    x, look, tall = side.outer, side.look, side.barrier_height_m
    near, far = camera.nearest_m(x, 1.12), 24.0
    snow = canvas.tint.snow
    if side.barrier == "wall":
        colour: Colour = ((176, 150, 130), (150, 146, 142), (186, 176, 154))[int(look[0] * 3) % 3]
        canvas.begin(WALL, surface="facade", depth_m=x)
        _wall_quad(canvas, camera, x, near, far, -0.08, tall, colour)
        for row in range(1, 4):
            _wall_quad(
                canvas,
                camera,
                x,
                near,
                far,
                tall * row / 4 - 0.03,
                tall * row / 4 + 0.03,
                dim(colour, 0.8),
                True,
            )
        _wall_quad(canvas, camera, x, near, far, tall * 0.88, tall, _SNOW if snow else dim(colour, 1.15), True)
        return
    colour = ((232, 230, 222), (122, 84, 56), (74, 84, 88))[int(look[0] * 3) % 3]
    gap = mix(dim(colour, 0.45), (70, 100, 60), 0.4)
    canvas.begin(FENCE, surface="facade", depth_m=x)
    _wall_quad(canvas, camera, x, near, far, -0.08, tall, gap)
    z = near - near % 0.5
    while z < 13.0:
        _wall_quad(canvas, camera, x, z, z + 0.26 * (1 + z / 16), 0, tall, colour, True)
        z += 0.5 * (1 + z / 16)
    for low in (0.2, 0.74):
        _wall_quad(canvas, camera, x, near, far, tall * low, tall * (low + 0.12), dim(colour, 0.9), True)
    if snow:
        _wall_quad(canvas, camera, x, near, far, tall * 0.9, tall, _SNOW, True)


def hedge(canvas: Canvas, camera: Camera, side: Side) -> None:
    """Bushes that close an open side in the middle distance."""
    depth = 19.0
    k, look = camera.focal_px / depth, side.look
    foot = camera.at(0, 0, depth)[1]
    start = camera.at(side.outer + side.sign * 1.5, 0, depth)[0]
    leaf: Colour = mix((70, 124, 58), (110, 140, 60), look[1])
    if canvas.tint.snow:
        leaf = mix(leaf, _SNOW, 0.5)
    canvas.begin(VEGETATION, depth_m=depth)
    x, i = start, 2
    while -8 < x < camera.width_px + 8:
        r = (1.6 + 1.2 * look[i % len(look)]) * k
        canvas.oval(x, foot - r * 0.75, r * 1.2, r * 0.95, mix(leaf, (40, 80, 44), 0.4 * look[(i + 4) % len(look)]))
        x += side.sign * r * 1.35
        i += 1


def tree(canvas: Canvas, camera: Camera, thing: Thing, number: int) -> None:
    look, snow = thing.look, canvas.tint.snow
    k = camera.focal_px / thing.z
    s = Stamp(canvas, camera.at(thing.x, 0, thing.z), k, look[11] < 0.5)
    canvas.begin(VEGETATION, thing=number, depth_m=thing.z)
    trunk: Colour = (98 + 20 * look[0], 70 + 14 * look[0], 48)
    leaf = mix((58, 122, 50), (136, 156, 58), look[1])
    if look[2] > 0.9:
        leaf = (198, 122, 44)
    dark, bright = dim(leaf, 0.66), mix(leaf, (226, 232, 140), 0.32)
    if snow:
        bright, leaf = _SNOW, mix(leaf, _SNOW, 0.35)
    if look[3] < 0.24:
        _conifer(s, look, trunk, mix(dark, (30, 84, 62), 0.5), bright if snow else dim(leaf, 0.8))
        return
    radius = 1.25 + 0.6 * look[4]
    stem = 1.3 + 0.7 * look[5]
    middle = stem + radius * 0.8
    width = max(0.15, 1.1 * camera.height_px / 64 / k)
    s.box(-width, 0, width, stem + 0.4, trunk)
    s.oval(0, middle, radius * 0.95, radius * 0.9, dark)
    for i in range(6):
        turn = 6.283 * (i / 6 + 0.1 * look[6])
        x, y = cos(turn) * radius * 0.62, sin(turn) * radius * 0.52
        r = radius * (0.42 + 0.22 * look[(i + 5) % len(look)])
        s.oval(x, middle + y, r, r, mix(dark, leaf, 0.35 + 0.5 * (y > 0)))
    for i in range(4):
        x = (look[(i + 7) % len(look)] - 0.5) * radius * 0.9
        y = (0.1 + 0.55 * look[(i + 2) % len(look)]) * radius
        r = radius * (0.2 + 0.14 * look[i])
        s.oval(x - radius * 0.15, middle + y * 0.8, r * 1.2, r, leaf if i % 2 else bright, inside=True)


def _conifer(s: Stamp, look: tuple[float, ...], trunk: Colour, dark: Colour, light: Colour) -> None:
    tall, half = 3.6 + 1.6 * look[4], 1.15 + 0.4 * look[5]
    s.box(-0.17, 0, 0.17, 0.8, trunk)
    for i in range(3):
        low = 0.6 + (tall - 0.6) * i * 0.27
        wide = half * (1 - 0.24 * i)
        high = low + (tall - 0.6) * 0.46
        s.poly(((-wide, low), (wide, low), (0, high)), dark)
        s.poly(((-wide, low), (-wide * 0.1, low + 0.12), (0, high)), light, inside=True)
