"""The families of the literature that passes rewrite, and which have no definition of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import markdown

PACKAGE = Path(__file__).parents[1] / "tautomer"


@dataclass(frozen=True)
class Rewrite:
    """A line of the table.

    Attributes:
        family: what it is called in the literature.
        identity: what is the same as what.
        condition: when.
        source: where the family is described.
        rule: what remarks call the rewrite.
        file: in the package.
    """

    family: str
    identity: str
    condition: str
    source: str
    rule: str
    file: str

    def cells(self) -> tuple[str, ...]:
        """As Markdown."""
        link = f"[{self.rule}](../tautomer/{self.file})"
        return self.family, f"`{self.identity}`", self.condition, self.source, link


REWRITES = (
    Rewrite(
        "LoRA, rsLoRA, VeRA, PiSSA, DoRA; LoRA of embeddings",
        "x W + b + s (x A) B = x (W + s A B) + b; W[x] + s A[x] B = (W + s A B)[x]; DoRA scales its columns",
        "W neither quantized nor read elsewhere; nothing rounds in between, but back to the type of W",
        "arXiv 2106.09685, 2312.03732, 2310.11454, 2404.02948, 2402.09353",
        "merge adapters",
        "passes/merge_adapters.py",
    ),
    Rewrite(
        "LoRA of convolutions",
        "Conv(x, W, c) + s Conv(Conv(x, A), B) = Conv(x, W + s B A, c)",
        "B is 1x1; both move over x alike; no groups",
        "arXiv 2106.09685",
        "merge convolution adapters",
        "passes/merge_convolution_adapters.py",
    ),
    Rewrite(
        "LayerScale, SkipInit, temperature of a softmax head",
        "(x W + b) s = x (W diag(s)) + b s, and with / in the place of *",
        "s constant, a divisor without zeros; nothing else reads what lies between; float16 keeps its digits",
        "arXiv 2103.17239, 2002.10444",
        "fold scale",
        "passes/fold_scale.py",
    ),
    Rewrite(
        "IA3",
        "(x * g) W + c = x (diag(g) W) + c, and with / in the place of *; behind a linear map as LayerScale",
        "g constant, a divisor without zeros; every reader is linear; float16 keeps its digits",
        "arXiv 2205.05638",
        "fold gain",
        "passes/fold_gain.py",
    ),
    Rewrite(
        "Fixup, NFNets, mean and deviation of images",
        "Conv(s x + b, W, c) = Conv(x, s W, c + sum of W b), and with - and /",
        "every reader is a convolution; b not across padding; a divisor has no zeros",
        "arXiv 1901.09321, 2102.06171",
        "fold around convolutions",
        "passes/fold_around_convolutions.py",
    ),
    Rewrite(
        "linear attention, SOFT",
        "(r (A B) c) C = r (A ((B c) C))",
        "only factors per row and column between; a third of the multiplications or less",
        "arXiv 2006.16236, 2110.11945",
        "reassociate",
        "passes/reassociate.py",
    ),
    Rewrite(
        "bases of KAN layers: B-splines, guarded ones of pykan too, Gaussians, products of ReLUs and others",
        "slice(f(a, b)) = f(slice(a), slice(b)), f pointwise: one kernel from one tensor",
        "`--target kernels`; constant knots, no two of which coincide",
        "arXiv 2404.19756, 2405.06721, 2406.02075",
        "basis functions",
        "passes/basis_functions.py",
    ),
    Rewrite(
        "KAN layers of Fourier series, of one parameter per edge",
        "sum_j a[n, j] C[o, j] = a C^T; of max(a C, 0): max(a, 0) max(C, 0)^T + max(-a, 0) max(-C, 0)^T",
        "C constant; nothing else reads the product by elements; a bounded where it is rectified",
        "arXiv 2404.19756",
        "sums of products",
        "passes/sums_of_products.py",
    ),
    Rewrite(
        "layers of pykan: masks and scales per edge",
        "sum_j P[j, o] sum_k B[n, j, k] C[j, o, k] = reshape(B) reshape(P C)",
        "P and C constant; nothing else reads what an edge gives",
        "arXiv 2404.19756",
        "edge sums",
        "passes/edge_sums.py",
    ),
    Rewrite(
        "layers of Chebyshev and Jacobi polynomials, linear maps written with letters",
        "einsum('b i d, i o d -> b o', a, C) = reshape(a) reshape(C^T)",
        "C constant; it is summed over the last axes of a; no letter of both stays",
        "github.com/SynodicMonth/ChebyKAN, github.com/SpaceLearner/JacobiKAN",
        "lower einsum",
        "passes/lower_einsum.py",
    ),
    Rewrite(
        "series activations; rational ones by a Vandermonde matrix",
        "sum_i f(x[..., None], p)[..., i] = f(x, p_0) + f(x, p_1) + ...; of stack(x_0, x_1, ...) alike",
        "`--target kernels` for the first, 8 terms at most; 16 of a stack; then Rational is looked for again",
        "arXiv 2312.17276 (PanGu-pi), 1907.06732 (PAU)",
        "unstack",
        "passes/unstack.py",
    ),
    Rewrite(
        "activations written through a mask",
        "x[mask] = c is Where(mask, c, x)",
        "the mask has the shape of x",
        "arXiv 2406.06313 (ProAct)",
        "masked write",
        "passes/masked_write.py",
    ),
    Rewrite(
        "gates of mixtures of experts, in one kernel",
        "softmax, the k largest, their share; or the k largest and their softmax",
        "`--target kernels`; 512 experts at most, 32 chosen, nothing else reads what lies between",
        "arXiv 2401.04088 (Mixtral)",
        "expert gates",
        "passes/expert_gates.py",
    ),
    Rewrite(
        "gates of mixtures of experts",
        "topk(softmax(x)) / sum of these = softmax(topk(x))",
        "`--choose-by-logits`; the probabilities of others are not read",
        "arXiv 2401.04088 (Mixtral)",
        "select experts",
        "passes/select_experts.py",
    ),
    Rewrite(
        "heads that choose: argmax, top k, Gumbel samples",
        "argmax(log_softmax(x) / t + g) = argmax(x / t + g), t > 0",
        "`--choose-by-logits`; nothing else reads the probabilities",
        "arXiv 1611.01144 (the Gumbel-max trick)",
        "choose by logits",
        "passes/choose_by_logits.py",
    ),
    Rewrite(
        "cross-entropy of a vocabulary, with z-loss",
        "cross_entropy(x W^T + b, t) + c mean(lse^2) by chunks of rows, which become their gradients",
        "torch, from 2^24 logits on, which nothing else reads; both losses take the same rows",
        "arXiv 2411.09009, 2410.10989, 2204.02311",
        "linear cross-entropy",
        "runtime/torch/cross_entropy_use.py",
    ),
    Rewrite(
        "heads of a vocabulary: log-probabilities of given tokens, cross-entropy, spherical Z-loss",
        "f(x W + b)[i] = f(x[i] W + b), f of rows: a loop over chunks of rows",
        "ONNX, from 2^24 logits on, or where rows are open 2^22 weights; little is kept of a row",
        "arXiv 2411.09009, 1604.08859",
        "rows in chunks",
        "passes/rows_in_chunks.py",
    ),
    Rewrite(
        "log-probability of a token, cross-entropy of given logits",
        "log_softmax(x)[t] = x[t] - m - log(sum(exp(x - m))), m = max(x)",
        "`--target kernels`; one number of each row is read",
        "ONNX LogSoftmax-13, SoftmaxCrossEntropyLoss-13",
        "log-probability",
        "passes/log_probability.py",
    ),
)


def rewrites_table() -> str:
    """All of them as a Markdown table."""
    head = ("family", "identity", "condition", "source", "rewrite")
    return markdown.table(head, [one.cells() for one in REWRITES])
