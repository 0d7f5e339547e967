"""One module for each sub-command of `restore`, and what each is for."""

__all__ = ["COMMANDS", "GROUPED"]

GROUPED = {
    "restore images": {
        "demo": "restore six photographs with the shipped model, and write a page to look at",
        "run": "restore a photograph or a folder of them, or a video",
        "serve": "a page to drop photographs on, and a REST interface",
        "compare": "restore an image with several models, and write a page that shows them side by side",
    },
    "measure": {
        "test": "evaluate a model over datasets, as an option file says",
        "score": "measure images against references, or by themselves",
        "defects": "box scratches, dust, hot pixels, text and JPEG blocks in photographs and scans",
        "submit": "make a challenge submission: restore, time, pack, and check the zip",
        "leaderboard": "score submissions as the organisers do, and keep a table of runs",
    },
    "train": {
        "train": "train a model, as an option file says",
        "finetune": "train a model further on your own photographs, and measure what it brought",
        "sweep": "train the same small network with every mixer or encoder, and draw quality against cost",
        "search": "find the best network within some milliseconds or parameters, ready to train on",
        "init": "write an option file that trains on your own folders",
        "options": "list, copy, explain, check or describe option files",
    },
    "data": {
        "data": "check datasets, and prepare them: lmdb databases, sub-images",
        "degrade": "make low-quality versions of photographs, paired with the originals",
    },
    "models": {
        "models": "list the models that load by name, and what can be built",
        "models search": "look for published models, here and in OpenModelDB",
        "models push": "write a model card, safetensors and an OpenModelDB entry, and upload them",
        "blend": "write weights between those of two networks",
        "analyse": "look into a network on one image: what it looks at, its attention, its cost",
        "export": "write a model as an ONNX or torch.export file",
    },
    "this installation": {
        "doctor": "show versions, devices, memory and optional parts, and what is wrong with them",
        "completion": "print a script with which the shell completes commands, options and models",
    },
}
COMMANDS = {name: about for group in GROUPED.values() for name, about in group.items()}
