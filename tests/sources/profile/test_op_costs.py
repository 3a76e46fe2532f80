"""Operations and bytes of operators, worked out by hand."""

from __future__ import annotations

import pytest

from warpspan.sources.profile.op_costs import OpCost, op_cost, op_inputs

BF16 = "c10::BFloat16"


@pytest.mark.parametrize(
    ("name", "dims", "types", "values", "expected"),
    [
        # 2·M·N·K; 2 bytes for each of A, B and the product.
        (
            "aten::mm", [[8, 16], [16, 4]], [BF16, BF16], [],
            OpCost("matmul", 2 * 8 * 4 * 16, 2 * (8 * 16 + 16 * 4 + 8 * 4), "f16"),
        ),
        (
            "aten::addmm", [[4], [8, 16], [16, 4], [], []],
            ["float", "float", "float", "Scalar", "Scalar"], [],
            OpCost("matmul", 2 * 8 * 4 * 16, 4 * (4 + 8 * 16 + 16 * 4 + 8 * 4), "f32"),
        ),
        (
            "aten::bmm", [[3, 8, 16], [3, 16, 4]], ["c10::Half", "c10::Half"], [],
            OpCost("matmul", 3 * 2 * 8 * 4 * 16, 2 * 3 * (8 * 16 + 16 * 4 + 8 * 4), "f16"),
        ),
        (
            "aten::linear", [[2, 8, 16], [4, 16], [4]], [BF16, BF16, BF16], [],
            OpCost("matmul", 2 * 2 * 8 * 4 * 16, 2 * (2 * 8 * 16 + 4 * 16 + 4 + 2 * 8 * 4), "f16"),
        ),
        # 2·B·H·S·T·(D+Dv).
        (
            "aten::_scaled_dot_product_flash_attention",
            [[1, 8, 32, 64], [1, 8, 48, 64], [1, 8, 48, 64]], [BF16] * 3, ["", "", "", "0.", "True"],
            OpCost(
                "attention", 2 * 8 * 32 * 48 * 128, 2 * 8 * 64 * (32 + 48 + 48 + 32), "f16"
            ),
        ),
        # Half of it where it is causal and all queries have all keys.
        (
            "aten::_scaled_dot_product_flash_attention",
            [[1, 8, 32, 64]] * 3, [BF16] * 3, ["", "", "", "0.", "True"],
            OpCost("attention", 8 * 32 * 32 * 128, 2 * 8 * 64 * 32 * 4, "f16"),
        ),
        # Here the heads stand behind the sequence.
        (
            "aten::_flash_attention_forward", [[1, 32, 8, 64]] * 3, [BF16] * 3, [],
            OpCost("attention", 2 * 8 * 32 * 32 * 128, 2 * 8 * 64 * 32 * 4, "f16"),
        ),
        # 2·N·O·(C/G)·∏kernel·∏output, 16×16 patches of a 32×32 image.
        (
            "aten::conv2d", [[2, 3, 32, 32], [8, 3, 16, 16], [8], [], [], [], []],
            ["float"] * 3 + ["ScalarList"] * 3 + ["Scalar"],
            ["", "", "", "[16, 16]", "[0, 0]", "[1, 1]", "1"],
            OpCost(
                "convolution", 2 * 2 * 8 * 3 * 256 * 4,
                4 * (2 * 3 * 1024 + 8 * 3 * 256 + 8 + 2 * 8 * 4), "f32",
            ),
        ),
        # Padding 1 keeps the size, a stride of one number is for both dimensions.
        (
            "aten::cudnn_convolution", [[1, 4, 8, 8], [4, 2, 3, 3]], ["float"] * 2,
            ["", "", "[1, 1]", "[1]", "[1, 1]", "2"],
            OpCost(
                "convolution", 2 * 4 * 2 * 9 * 64, 4 * (4 * 64 + 4 * 2 * 9 + 4 * 64), "f32"
            ),
        ),
        (
            "aten::native_layer_norm", [[8, 16], [], [16], [16]],
            [BF16, "ScalarList", BF16, BF16], [],
            OpCost("normalization", 5 * 128, 2 * (128 + 16 + 16 + 128), "f16"),
        ),
        # A sum is as large as the larger of both; a number has no size.
        (
            "aten::add_", [[8, 16], [16], []], ["float", "float", "Scalar"], [],
            OpCost("elementwise", 128, 4 * (128 + 16 + 128), "f32"),
        ),
        (
            "aten::copy_", [[8, 16], [8, 16], []], ["float", BF16, "Scalar"], [],
            OpCost("elementwise", 0, 4 * 128 + 2 * 128, "f32"),
        ),
        (
            "aten::sum", [[8, 16], [], []], ["float", "ScalarList", "Scalar"], [],
            OpCost("elementwise", 128, 4 * 128, "f32"),
        ),
    ],
)  # fmt: skip
def test_costs_are_those_of_the_formulas(name, dims, types, values, expected):
    """Each operator by its published formula, what it reads once and what it writes once."""
    assert expected == op_cost(name, dims, types, values)


@pytest.mark.parametrize(
    ("name", "dims", "types", "values"),
    [
        ("vllm::attention", [[8, 16]], [BF16], []),
        ("aten::mm", [[8, 16]], [BF16], []),
        ("aten::mm", [[8], []], [BF16, BF16], []),
        ("aten::mm", [["x"], [1]], [BF16, BF16], []),
        ("aten::mm", "8, 16", [BF16], []),
        ("aten::mm", [[8, 16], [16, 4]], None, []),
        ("aten::conv2d", [[2, 3, 32, 32], [8, 3, 16, 16]], ["float"] * 2, []),
        ("aten::conv2d", [[2, 3, 32, 32], [8, 3, 16, 16]], ["float"] * 2, ["", "", "", "[0]"] * 3),
        ("aten::add", [[], []], ["Scalar", "Scalar"], []),
        # The types of what is in a list are not recorded.
        ("aten::cat", [[[2, 4], [3, 4]], []], ["TensorList", "Scalar"], []),
    ],
)
def test_what_is_not_known_has_no_cost(name, dims, types, values):
    """Other operators, shapes that are missing or odd, a convolution without its stride."""
    assert op_cost(name, dims, types, values) is None


def test_inputs_are_written_short():
    """Types and shapes of tensors, without numbers and lists of them."""
    types = [
        "c10::BFloat16",
        "long int",
        "Scalar",
        "ScalarList",
        "TensorList",
        "c10::Float8_e4m3fn",
    ]
    dims = [[1, 512], [4], [], [2], [[2, 3], [4, 3]], [8, 8]]

    shapes = op_inputs("aten::x", dims, types, []).shapes

    assert "bf16[1,512] i64[4] tensorlist[[2,3],[4,3]] float8_e4m3fn[8,8]" == shapes
