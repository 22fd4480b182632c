"""Photos of plants and their masks, rendered from a seed; `synthset.registry.SCENES` names what can be rendered.

`scene` holds the camera, the light, the soil and the painting; each other file is what stands in front of the camera.
"""
