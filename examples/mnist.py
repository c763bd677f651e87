"""The MNIST digits
================

Train on the 60,000 MNIST digits, which come with the package, and look at what the network says.
"""

import fastbp
from fastbp import SGD, Network, Trainer

data = fastbp.data.mnist()  # uint8 images (n, 784) and labels (n,)
net = Network([784, 128, 10], hidden="relu", output="softmax", seed=0, input_scale=data.input_scale)
trainer = Trainer(net, loss="cross_entropy", optimizer=SGD(eta=0.2, momentum=0.9, nesterov=True), schedule="linear")
history = trainer.fit(data.x_train, data.y_train, epochs=5, validation_data=(data.x_test, data.y_test))

print(f"{history.validation_accuracy[-1]:.2%} of the test digits are right, "
      f"after {sum(history.seconds):.2f} seconds of training")
print("The first ten say", net.predict(data.x_test[:10]), "and are", data.y_test[:10])
