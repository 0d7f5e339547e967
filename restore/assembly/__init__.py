"""The one place that turns options into objects: networks, datasets, metrics, restorers and trainings.

    from restore.assembly.restorers import restorer_of
    from restore.assembly.trainings import train
    from restore.options import load

    train(load("options/train_swinir_light_x2.yml"))
    restorer = restorer_of(load("options/swinir_x4.yml"))

Commands read arguments and options and call it; what lies below is given objects and plain values. Each module is
imported where it is used, as they need different parts of the package.
"""
