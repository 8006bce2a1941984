"""Drop-in classes for diffusers' deprecated aMUSEd pipelines: the same calls, our loop, without their bugs.

    from amused_core.pipelines import AmusedPipeline   # instead of: from diffusers import AmusedPipeline

Importing this module imports diffusers; `import amused_core` alone does not.
"""

from .img2img import AmusedImg2ImgPipeline
from .inpaint import AmusedInpaintPipeline
from .text2img import AmusedPipeline

__all__ = ["AmusedImg2ImgPipeline", "AmusedInpaintPipeline", "AmusedPipeline"]
