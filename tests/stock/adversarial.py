"""A generator and a discriminator: two optimizers by hand, pictures through the logger's experiment."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

MODEL = """
_target_: tests.stock.adversarial.Adversarial
latent_dim: choice(4, 8)
lr: tag(log, interval(1e-4, 1e-2))
"""
DATA = """
_target_: tests.stock.images.Pictures
batch_size: choice(16, 32)
"""
ARGUMENTS = ("objective.metric=g_loss", "optimizer=own", "schedule=own")


class Generator(nn.Module):
    def __init__(self, latent_dim: int, img_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.img_shape = img_shape
        size = img_shape[0] * img_shape[1] * img_shape[2]
        self.model = nn.Sequential(
            nn.Linear(latent_dim, 16), nn.BatchNorm1d(16, 0.8), nn.LeakyReLU(0.2), nn.Linear(16, size), nn.Tanh()
        )

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.model(z)
        return images.view(len(z), *self.img_shape)


class Discriminator(nn.Module):
    def __init__(self, img_shape: tuple[int, int, int]) -> None:
        super().__init__()
        size = img_shape[0] * img_shape[1] * img_shape[2]
        self.model = nn.Sequential(nn.Linear(size, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        validity: Tensor = self.model(images.flatten(1))
        return validity


class Adversarial(LightningModule):
    def __init__(self, latent_dim: int = 8, lr: float = 2e-4, b1: float = 0.5, b2: float = 0.999) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        shape = (1, 8, 8)
        self.generator = Generator(latent_dim, shape)
        self.discriminator = Discriminator(shape)
        self.validation_z = torch.randn(4, latent_dim)
        self.example_input_array = torch.zeros(2, latent_dim)

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.generator(z)
        return images

    def adversarial_loss(self, y_hat: Tensor, y: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy(y_hat, y)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, _ = batch
        optimizer_g, optimizer_d = self.optimizers()  # type: ignore[misc, union-attr]
        z = torch.randn(len(images), self.hparams["latent_dim"]).type_as(images)

        self.toggle_optimizer(optimizer_g)
        g_loss = self.adversarial_loss(self.discriminator(self(z)), torch.ones(len(images), 1).type_as(images))
        self.log("g_loss", g_loss, prog_bar=True)
        self.manual_backward(g_loss)
        optimizer_g.step()
        optimizer_g.zero_grad()
        self.untoggle_optimizer(optimizer_g)

        self.toggle_optimizer(optimizer_d)
        real = self.adversarial_loss(self.discriminator(images), torch.ones(len(images), 1).type_as(images))
        fake = self.adversarial_loss(self.discriminator(self(z).detach()), torch.zeros(len(images), 1).type_as(images))
        d_loss = (real + fake) / 2
        self.log("d_loss", d_loss, prog_bar=True)
        self.manual_backward(d_loss)
        optimizer_d.step()
        optimizer_d.zero_grad()
        self.untoggle_optimizer(optimizer_d)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        sample = self(self.validation_z.type_as(self.generator.model[0].weight))
        grid = torch.cat(list(sample), dim=2)
        self.logger.experiment.add_image("generated_images", grid, self.current_epoch)  # type: ignore[union-attr]

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        rate, betas = self.hparams["lr"], (self.hparams["b1"], self.hparams["b2"])
        opt_g = torch.optim.Adam(self.generator.parameters(), lr=rate, betas=betas)
        opt_d = torch.optim.Adam(self.discriminator.parameters(), lr=rate, betas=betas)
        return [opt_g, opt_d], []
