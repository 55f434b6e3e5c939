"""What exported sources compute of whole layers: the text of the functions that `to_c` calls for the rows of a table.

Each is the engine's of the same name for a single row (``csrc/dense.inc.h``, ``norm.inc.h``, ``parametric.inc.h``,
``head.inc.h``), with its order of sums: an element of a product is one chain over the inputs that starts at the bias,
and a sum within a row of a norm runs in 16 lanes.  As the columns of a product lie in the lanes of a vector, a compiler
may use vectors without changing that order, and needs no option that allows it to.  Names in the text are those of
`pymlp.export.c_functions`, and ``$P`` stands for the prefix of macros.
"""

from __future__ import annotations

from pymlp.functions import ACTIVATIONS

# columns of a product whose weights lie together, one input after the other: 256 bytes of each, by type
PANEL = {"float32": 64, "float64": 32}

# what surrounds the functions: how they are inlined, how data lie, how many sums a processor's registers hold
MACROS = """\
/* Functions that read the model's numbers do not know them: where gcc 12 does, it fuses products with sums whose signs
 * alternate, whatever it is told of contraction. */
#if defined(__clang__)
#define ${P}APART static __attribute__((noinline))
#elif defined(__GNUC__)
#define ${P}APART static __attribute__((noinline, noclone))
#else
#define ${P}APART static
#endif
#if defined(__GNUC__)
#define ${P}INLINE static inline __attribute__((always_inline))
#define ${P}ALIGNED __attribute__((aligned(64)))
#else
#define ${P}INLINE static inline
#define ${P}ALIGNED
#endif"""
BLOCK = """\
/* columns whose sums are in registers at the same time; it must divide $panel */
#ifndef ${P}BLOCK
#if defined(__AVX__) || defined(__aarch64__) || defined(_M_ARM64)
#define ${P}BLOCK $panel
#elif defined(__SSE2__) || defined(_M_X64)
#define ${P}BLOCK $half_panel
#else
#define ${P}BLOCK $scalar_block
#endif
#endif"""

COLUMNS = """\
/* bias + x W for `width` columns, whose weights are `pitch` apart from one input to the next */
${P}INLINE void ${p}columns(const size_t width, size_t inputs, const size_t pitch, const $real *x, const $real *weight,
    const $real *bias, $real *z)
{
    $real sums[${P}BLOCK];
    size_t i, k;
    for (i = 0; i < width; i++)
        sums[i] = bias[i];
    for (k = 0; k < inputs; k++) {
        for (i = 0; i < width; i++)
            sums[i] = sums[i] + x[k] * weight[i];
        weight += pitch;
    }
    for (i = 0; i < width; i++)
        z[i] = sums[i];
}

/* the same for panels of `width` columns, whose weights lie one panel after the other */
${P}INLINE void ${p}panels(const size_t width, size_t inputs, size_t panels, const $real *x, const $real *weight,
    const $real *bias, $real *z)
{
    size_t panel, first;
    for (panel = 0; panel < panels; panel++) {
        for (first = 0; first + ${P}BLOCK <= width; first += ${P}BLOCK)
            ${p}columns(${P}BLOCK, inputs, width, x, weight + first, bias + first, z + first);
        if (width % ${P}BLOCK != 0)
            ${p}columns(width % ${P}BLOCK, inputs, width, x, weight + first, bias + first, z + first);
        weight += width * inputs;
        bias += width;
        z += width;
    }
}"""
# for a width that the compiler knows
DENSE = """\
${P}APART void ${p}dense_$width(size_t inputs, size_t panels, const $real *x, const $real *weight, const $real *bias,
    $real *z)
{
    ${p}panels($width, inputs, panels, x, weight, bias, z);
}"""
WHOLE_DENSE = """\
/* scale (x W) + bias for x of $inputs whole numbers; the weights of a unit lie together */
${P}APART void ${p}dense_$inputs(size_t units, const int16_t *whole, const signed char *weight, const float *scale,
    const float *bias, float *z)
{
    size_t unit, k;
    for (unit = 0; unit < units; unit++) {
        int32_t sum = 0;
        for (k = 0; k < $inputs; k++)
            sum += (int32_t)whole[k] * (int32_t)weight[k];
        z[unit] = (float)sum * scale[unit] + bias[unit];
        weight += $inputs;
    }
}"""

# the functions beside products, by name
LAYER_FUNCTIONS: dict[str, str] = {
    "whole": """\
/* x as whole numbers from -128 to 127, which are 0 and 255 steps above low; what lies outside counts as the end next to
 * it, and what is not a number as the lower one */
${P}INLINE int16_t ${p}whole(float x, float low, float inverse)
{
    const float placed = (x - low) * inverse + -128;
    const float above = placed > -128 ? placed : -128;
    /* adding a number so large leaves no places after the point */
    const float shifted = (above < 127 ? above : 127) + 12582912.0f;
    return (int16_t)(shifted - 12582912.0f);
}""",
    "quantise": """\
static void ${p}quantise(size_t inputs, const float *x, float low, float inverse, int16_t *whole)
{
    size_t k;
    for (k = 0; k < inputs; k++)
        whole[k] = ${p}whole(x[k], low, inverse);
}""",
    "quantise_each": """\
/* with a range for each input */
${P}APART void ${p}quantise_each(size_t inputs, const float *x, const float *low, const float *inverse, int16_t *whole)
{
    size_t k;
    for (k = 0; k < inputs; k++)
        whole[k] = ${p}whole(x[k], low[k], inverse[k]);
}""",
    "layer_norm": """\
/* the sum of 16 numbers */
static $real ${p}sum_of_lanes($real *lanes)
{
    int half, i;
    for (half = 8; half > 0; half /= 2)
        for (i = 0; i < half; i++)
            lanes[i] = lanes[i] + lanes[i + half];
    return lanes[0];
}

static $real ${p}mean(size_t units, const $real *x)
{
    $real lanes[16] = {0};
    size_t first, i;
    for (first = 0; first + 16 <= units; first += 16)
        for (i = 0; i < 16; i++)
            lanes[i] = lanes[i] + x[first + i];
    for (i = first; i < units; i++)
        lanes[i - first] = lanes[i - first] + x[i];
    return ${p}sum_of_lanes(lanes) / ($real)units;
}

static $real ${p}variance(size_t units, const $real *x, $real mean)
{
    $real lanes[16] = {0};
    size_t first, i;
    for (first = 0; first + 16 <= units; first += 16)
        for (i = 0; i < 16; i++)
            lanes[i] = (x[first + i] - mean) * (x[first + i] - mean) + lanes[i];
    for (i = first; i < units; i++)
        lanes[i - first] = (x[i] - mean) * (x[i] - mean) + lanes[i - first];
    return ${p}sum_of_lanes(lanes) / ($real)units;
}

/* gain (x - mean) / deviation + shift; z may be x */
${P}APART void ${p}layer_norm(size_t units, const $real *x, $real epsilon, const $real *gain, const $real *shift,
    $real *z)
{
    const $real mean = ${p}mean(units, x);
    const $real inverse = 1 / ${p}sqrt(${p}variance(units, x, mean) + epsilon);
    size_t i;
    for (i = 0; i < units; i++)
        z[i] = (x[i] - mean) * inverse * gain[i] + shift[i];
}""",
    "scale": """\
/* from the units of the training to those of the targets */
${P}APART void ${p}scale(size_t outputs, const $real *scale, const $real *shift, $real *out)
{
    size_t i;
    for (i = 0; i < outputs; i++)
        out[i] = out[i] * scale[i] + shift[i];
}""",
    "add": """\
static void ${p}add(size_t units, const $real *x, const $real *y, $real *z)
{
    size_t i;
    for (i = 0; i < units; i++)
        z[i] = x[i] + y[i];
}""",
    "softmax": """\
static void ${p}softmax(size_t units, $real *z)
{
    $real highest = z[0], sum = 0;
    size_t i;
    for (i = 1; i < units; i++)
        highest = z[i] > highest ? z[i] : highest;
    for (i = 0; i < units; i++)
        z[i] = ${p}exp(z[i] - highest);
    for (i = 0; i < units; i++)
        sum = sum + z[i];
    for (i = 0; i < units; i++)
        z[i] = ${p}flushed(z[i] / sum);
}""",
    "ascending": """\
/* of each `group` the first is itself, and each of the others lies above the one before */
static void ${p}ascending(size_t units, size_t group, $real *z)
{
    size_t i;
    for (i = 0; i < units; i++)
        z[i] = i % group == 0 ? z[i] : z[i - 1] + ${p}softplus(z[i]);
}""",
    "mean_deviation": """\
/* every second number becomes a deviation, above 0 */
static void ${p}mean_deviation(size_t units, $real *z)
{
    size_t i;
    for (i = 1; i < units; i += 2)
        z[i] = ${p}softplus(z[i]) + $least_deviation;
}""",
    "apply_cosine": """\
static void ${p}apply_cosine(size_t units, $real *z)
{
    size_t i;
    int far = 0;
    for (i = 0; i < units; i++)
        far |= ${p}absolute(z[i]) > $near_angle;
    if (far) {
        for (i = 0; i < units; i++)
            z[i] = ${p}cosine(z[i]);
    } else {
        for (i = 0; i < units; i++)
            z[i] = ${p}near_cosine(z[i]);
    }
}""",
}  # fmt: skip
# activations that are functions of one number
ELEMENTWISE = [name for name, row in ACTIVATIONS.items() if row.slope is not None and name != "identity"]


def _apply(name: str) -> str:
    return f"""\
static void ${{p}}apply_{name}(size_t units, $real *z)
{{
    size_t i;
    for (i = 0; i < units; i++)
        z[i] = ${{p}}{name}(z[i]);
}}"""


def _parametric(name: str) -> str:
    value = "x[i]" if name == "identity" else f"${{p}}{name}(x[i])"
    return f"""\
/* x + mixture (f(x) - x); z may be x */
${{P}}APART void ${{p}}parametric_{name}(size_t units, const $real *x, const $real *mixture, $real *z)
{{
    size_t i;
    for (i = 0; i < units; i++)
        z[i] = mixture[i] * ({value} - x[i]) + x[i];
}}"""


LAYER_FUNCTIONS.update({f"parametric_{name}": _parametric(name) for name in ["identity", *ELEMENTWISE]})
LAYER_FUNCTIONS.update(
    {f"apply_{name}": _apply(name) for name in ELEMENTWISE if f"apply_{name}" not in LAYER_FUNCTIONS}
)


def blocks(dtype: str) -> dict[str, str]:
    """What stands for the numbers of columns in `BLOCK`."""
    panel = PANEL[dtype]
    return {"panel": str(panel), "half_panel": str(panel // 2), "scalar_block": str(panel // 8)}
