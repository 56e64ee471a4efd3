"""A frozen backbone as a scikit-learn transformer: images in, features out.

    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from probe import FrozenBackbone

    model = make_pipeline(FrozenBackbone("efficientnet_lite0", size=64), LogisticRegression())
    GridSearchCV(model, {"logisticregression__C": [0.01, 0.1, 1]}).fit(images, labels)

Every image is forwarded once, whatever the number of folds, parameters and processes: rows go into
the cache by the hash of the image, where `probe extract` and later runs find them too.
"""

from probe.frozen.transformer import FrozenBackbone

__all__ = ["FrozenBackbone"]
