"""Entry points of libraries that need no hook of their own: one row for each method or function.

A row says that each call is one inference, and that the module calls inside are its steps. Methods are
wrapped in all subclasses, too; what a version of a library does not have is left out. Methods of a
module that only call modules inside it need no row (`runtime/callers.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from warpspan.hooks.contract import DECODE, ENCODER, PREFILL, STEP
from warpspan.hooks.libraries.entry_points import EntryCall

#: Says what a call is: by the object, the arguments, the keyword arguments and the operation's name.
Opens: TypeAlias = Callable[[Any, tuple[Any, ...], dict[str, Any], str], EntryCall | None]


class Entry(NamedTuple):
    """What a library offers for one inference.

    Args:
        module: the module that defines it.
        path: `Class.method` or `function`.
        operation: the span's name; by default the method's.
        opens: what is known of a call.
    """

    module: str
    path: str
    operation: str | None = None
    opens: Opens = EntryCall


class Whisper(EntryCall):
    """A call of openai-whisper: the encoder, and for each window of audio a prefill and its decoding."""

    def phase(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """By the class of the module, and by the tokens that the decoder takes."""
        if type(module).__name__ == "AudioEncoder":
            return ENCODER
        cache = kwargs.get("kv_cache")
        if cache is None:  # the language is detected by one token
            return STEP
        return DECODE if cache and args[0].shape[-1] == 1 else PREFILL


class Engine(EntryCall):
    """A call of a compiled engine, which has no modules: its class stands for the model."""

    def __init__(
        self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any], operation: str
    ) -> None:
        super().__init__(owner, args, kwargs, operation)
        self.model = type(owner).__name__


def _unless_streamed(
    owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any], operation: str
) -> EntryCall | None:
    """A stream of results is a generator: each of its model calls is an inference."""
    return None if kwargs.get("stream") else EntryCall(owner, args, kwargs, operation)


def _of_torch(
    owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any], operation: str
) -> EntryCall | None:
    """SpaCy without a transformer computes nothing with torch."""
    names = getattr(owner, "pipe_names", ())
    transformer = any("transformer" in name for name in names)
    return EntryCall(owner, args, kwargs, operation) if transformer else None


def _methods(module: str, owner: str, *methods: str, opens: Opens = EntryCall) -> Iterator[Entry]:
    for method in methods:
        yield Entry(module, f"{owner}.{method}", opens=opens)


def _functions(module: str, *functions: str, opens: Opens = EntryCall) -> Iterator[Entry]:
    for function in functions:
        yield Entry(module, function, opens=opens)


def _entries() -> Iterator[Entry]:
    # Speech. A function of openai-whisper is also a method, and is bound to both names early.
    whisper = ("transcribe", "decode", "detect_language")
    yield from _functions("whisper.transcribe", "transcribe", opens=Whisper)
    yield from _functions("whisper.decoding", "decode", "detect_language", opens=Whisper)
    yield from _methods("whisper.model", "Whisper", *whisper, opens=Whisper)
    yield from _functions("whisper", *whisper, opens=Whisper)
    yield from _functions("silero_vad.utils_vad", "get_speech_timestamps")
    yield from _functions("silero_vad", "get_speech_timestamps")
    yield from _methods(
        "speechbrain.inference.interfaces",
        "Pretrained",
        *("encode_batch", "encode_file", "classify_batch", "classify_file"),
        *("verify_batch", "verify_files", "transcribe_batch", "transcribe_file"),
        *("separate_batch", "separate_file", "enhance_batch", "enhance_file"),
        *("encode_text", "encode_phoneme", "decode_batch", "decode_spectrogram"),
        *("get_speech_segments", "translate_batch", "diarize_file"),
    )
    yield from _methods(
        "nemo.collections.asr.parts.mixins.transcription", "TranscriptionMixin", "transcribe"
    )
    yield from _methods("pyannote.audio.core.pipeline", "Pipeline", "__call__")
    yield from _methods("pyannote.audio.core.inference", "Inference", "__call__", "crop")
    yield from _methods("TTS.utils.synthesizer", "Synthesizer", "tts", "voice_conversion")
    yield from _methods("chatterbox.tts", "ChatterboxTTS", "generate")
    yield from _functions("demucs.apply", "apply_model")
    yield from _methods("demucs.api", "Separator", "separate_tensor", "separate_audio_file")
    # Images.
    yield from _methods(
        "ultralytics.engine.model", "Model", "predict", "track", opens=_unless_streamed
    )
    for package in ("segment_anything", "mobile_sam"):
        yield from _methods(
            f"{package}.predictor", "SamPredictor", "set_image", "predict", "predict_torch"
        )
        yield from _methods(
            f"{package}.automatic_mask_generator", "SamAutomaticMaskGenerator", "generate"
        )
    yield from _methods(
        "sam2.sam2_image_predictor",
        "SAM2ImagePredictor",
        *("set_image", "set_image_batch", "predict", "predict_batch"),
    )
    yield from _methods("sam2.automatic_mask_generator", "SAM2AutomaticMaskGenerator", "generate")
    yield from _methods(
        "easyocr.easyocr", "Reader", "readtext", "readtext_batched", "detect", "recognize"
    )
    yield from _methods("detectron2.engine.defaults", "DefaultPredictor", "__call__")
    yield from _methods("mmengine.infer.infer", "BaseInferencer", "__call__")
    yield from _methods("facenet_pytorch.models.mtcnn", "MTCNN", "detect")
    yield from _methods("realesrgan.utils", "RealESRGANer", "enhance")
    yield from _functions("monai.inferers.utils", "sliding_window_inference")
    yield from _methods("monai.inferers.inferer", "Inferer", "__call__")
    # Text, and text with images.
    for module, owner in (
        ("open_clip.model", "CLIP"),
        ("open_clip.model", "CustomTextCLIP"),
        ("open_clip.coca_model", "CoCa"),
        ("clip.model", "CLIP"),
    ):
        yield from _methods(module, owner, "encode_image", "encode_text")
    yield from _methods(
        "transformers.modeling_utils",
        "PreTrainedModel",
        *("get_text_features", "get_image_features", "get_audio_features", "get_video_features"),
        *("get_image_embeddings", "encode_text", "encode_image"),
    )
    yield from _methods(
        "FlagEmbedding.abc.inference.AbsEmbedder",
        "AbsEmbedder",
        *("encode", "encode_queries", "encode_corpus"),
    )
    yield from _methods("FlagEmbedding.abc.inference.AbsReranker", "AbsReranker", "compute_score")
    yield from _methods("rerankers.models.ranker", "BaseRanker", "rank")
    yield from _methods("colbert.modeling.checkpoint", "Checkpoint", "queryFromText", "docFromText")
    for owner in ("GLiNER", "BaseGLiNER"):
        yield from _methods(
            "gliner.model", owner, "predict_entities", "batch_predict_entities", "inference"
        )
    yield from _methods("flair.nn.model", "Classifier", "predict")
    yield from _methods("flair.embeddings.base", "Embeddings", "embed")
    yield from _methods("spacy.language", "Language", "__call__", opens=_of_torch)
    yield from _methods("stanza.pipeline.core", "Pipeline", "process", "bulk_process")
    yield from _methods("detoxify.detoxify", "Detoxify", "predict")
    yield from _methods(
        "fairseq.hub_utils", "GeneratorHubInterface", "translate", "generate", "score"
    )
    yield from _methods(
        "allennlp.predictors.predictor", "Predictor", "predict_json", "predict_instance"
    )
    # Tables, time series, and agents.
    yield from _methods("pytorch_tabnet.abstract_model", "TabModel", "predict", "predict_proba")
    for kind in ("Classifier", "Regressor"):
        yield from _methods(f"tabpfn.{kind.lower()}", f"TabPFN{kind}", "predict", "predict_proba")
    yield from _methods("skorch.net", "NeuralNet", "predict", "predict_proba")
    yield from _methods(
        "chronos.base", "BaseChronosPipeline", "predict", "predict_quantiles", "predict_df", "embed"
    )
    yield from _methods("timesfm.timesfm_base", "TimesFmBase", "forecast")
    yield from _methods("timesfm.timesfm_2p5.timesfm_2p5_base", "TimesFM_2p5", "forecast")
    yield from _methods("neuralforecast.core", "NeuralForecast", "predict")
    yield from _methods(
        "darts.models.forecasting.torch_forecasting_model", "TorchForecastingModel", "predict"
    )
    yield from _methods("stable_baselines3.common.base_class", "BaseAlgorithm", "predict")
    yield from _methods("stable_baselines3.common.policies", "BasePolicy", "predict")
    yield from _methods("d3rlpy.algos.qlearning.base", "QLearningAlgoBase", "predict")
    # Engines that are no modules. AOTInductor's was in the first place until torch 2.8.
    for module in ("torch._inductor.package.package", "torch.export.pt2_archive._package"):
        yield Entry(module, "AOTICompiledModel.__call__", "forward", Engine)
    yield Entry("executorch.runtime", "Method.execute", "forward", Engine)


#: All that are known.
ENTRIES: tuple[Entry, ...] = tuple(_entries())
