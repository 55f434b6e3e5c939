"""Coefficients of the functions in exported sources, in float32 and float64, lowest power first, and polynomials in C.

They are those of the engine, ``csrc/tables.h``, which ``csrc/make_tables.py`` works out and explains; an installed
package has no copy of that file.  A test compares the two.
"""

from __future__ import annotations

from pymlp.export.c_text import literal

# a polynomial with more coefficients than this is two chains, of the even and of the odd powers
LONGEST_CHAIN = 12

Pair = tuple[tuple[float, ...], tuple[float, ...]]

# by the name they have there
TABLES: dict[str, Pair] = {
    "exp_table": (
        (
            0.4999999403953552, 0.1666652262210846, 0.04166819900274277, 0.00836857408285141, 0.0013828306691721082,
        ),
        (
            0.5000000000000011, 0.16666666666666455, 0.04166666666652799, 0.008333333333469804, 0.0013888888943592755,
            0.00019841269539971445, 2.4801493549678996e-05, 2.7557574130161673e-06, 2.7630003077428844e-07,
            2.4999323468140824e-08,
        ),
    ),
    "log_table": (
        (
            0.6666677594184875, 0.3997758626937866, 0.29870694875717163,
        ),
        (
            0.6666666666666734, 0.3999999999941707, 0.28571428741886845, 0.22222198622199363, 0.18183561878644572,
            0.15314111005411396, 0.1479536369760587,
        ),
    ),
    "log1p_table": (
        (
            0.666664183139801, 0.40021437406539917, 0.2800302505493164, 0.28006792068481445,
        ),
        (
            0.6666666666666631, 0.4000000000015591, 0.28571428548010597, 0.2222222396071348, 0.18181744217528956,
            0.15386554210046127, 0.13301042011945183, 0.12105594850175408, 0.08342040531075284, 0.17015349313975753,
        ),
    ),
    "normal_table": (
        (
            0.4149168133735657, 0.256723552942276, 0.15405216813087463, -0.1941477358341217, -0.6702792644500732,
            -0.9492125511169434, -0.7688069939613342, -0.25066494941711426, 0.14979633688926697, 0.14673499763011932,
        ),
        (
            0.3907209786930194, 0.22508420632595055, 0.22039726407433424, 0.05725397419753022, -0.3041762930302553,
            -0.7765360146800094, -1.135856187961136, -1.1475122608661572, -0.7660356524690803, -0.22038195328057042,
            0.14941498208758092, 0.18451760584956597, 0.02614657584960949, -0.07644340811714954, -0.03877347594188454,
            0.02919440526156838, 0.026513323673018365, -0.012412862488230644, -0.01592915692445824,
            0.006000883754720495, 0.008572696958403233, -0.002258042171087639, -0.003082582892855515,
        ),
    ),
    "sine_table": (
        (
            -0.16666655242443085, 0.008332187309861183, -0.00019517897453624755,
        ),
        (
            -0.1666666666666663, 0.00833333333332184, -0.00019841269829358468, 2.755731353847343e-06,
            -2.5050734380080444e-08, 1.5895432610497494e-10,
        ),
    ),
    "cosine_table": (
        (
            0.04166664555668831, -0.0013887309469282627, 2.4432327336398885e-05,
        ),
        (
            0.041666666666666595, -0.0013888888888873307, 2.480158728896521e-05, -2.7557314203067063e-07,
            2.0875703137131617e-09, -1.1358616849013821e-11,
        ),
    ),
}  # fmt: skip

# constants that differ between the two types
CONSTANTS: dict[str, tuple[float, float]] = {
    "NORMAL_POLE": (0.21875, 0.1875),
    "NORMAL_FACTOR": (0.7901004552841187, 0.789999999999781),
    "NORMAL_MIDDLE": (0.625, 0.5625),
    "NORMAL_END": (13.5, 38.6),
    "HALF_PI_1": (1.5703125, 1.5707963109016418),
    "HALF_PI_2": (0.0004837512969970703, 1.5893254712295857e-08),
    "HALF_PI_3": (7.549790126404332e-08, 6.123233995736766e-17),
    "HALF_PI_4": (-1.7151245100058819e-15, -1.4973849048591815e-33),
}

# 2 / pi after 64 zeros, 32 binary digits a number
TWO_OVER_PI = (
    0x00000000, 0x00000000, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab,
    0xdebbc561, 0xb7246e3a, 0x424dd2e0, 0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e, 0xe88235f5, 0x2ebb4484,
    0xe99c7026, 0xb45f7e41, 0x3991d639, 0x835339f4, 0x9c845f8b, 0xbdf9283b, 0x1ff897ff, 0xde05980f, 0xef2f118b,
    0x5a0a6d1f, 0x6d367ecf, 0x27cb09b7, 0x4f463f66, 0x9e5fea2d, 0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea,
    0x6bfb5fb1, 0x1f8d5d08, 0x56033046, 0xfc7b6bab,
)  # fmt: skip


def polynomial_function(table: str, comment: str) -> str:
    """The text of a function named like its table; its statements depend on the type, see `polynomial_statements`."""
    return f"/* {comment} */\nstatic inline $real ${{p}}{table}($real x)\n{{\n${table}_sum\n    return sum;\n}}"


def polynomial_statements(table: str, dtype: str) -> str:
    """Statements of C that leave in ``sum`` the polynomial of x, in the order of the engine's operations."""
    real, numbers = ("float", TABLES[table][0]) if dtype == "float32" else ("double", TABLES[table][1])
    terms = [literal(number, dtype) for number in numbers]
    last = terms.pop()
    if len(numbers) > LONGEST_CHAIN:
        lines = [f"{real} square = x * x, sum = {last}, other = {terms.pop()};"]
        while len(terms) > 4:
            lines += [f"sum = sum * square + {terms.pop()};", f"other = other * square + {terms.pop()};"]
        lines.append("sum = sum * x + other;")
    else:
        lines = [f"{real} sum = {last};"]
    lines += [f"sum = sum * x + {term};" for term in reversed(terms)]
    return "\n".join(f"    {line}" for line in lines).replace("+ -", "- ")
