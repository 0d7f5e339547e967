"""Components and keys of BasicSR and its forks that this package does not have, and what to use instead.

A name leaves this table's reach as soon as it is registered.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Family", "family_of", "family_of_key"]


@dataclass(frozen=True)
class Family:
    """What a group of absent components does, and the nearest thing there is.

    Attributes:
        reason: why they are not here.
        instead: what to use here, as a sentence.
        components: their names.
        keys: keys of `train` and `val` that only they read.
    """

    reason: str
    instead: str
    components: frozenset[str]
    keys: frozenset[str] = frozenset()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FAMILIES = (
    Family(
        "none of its networks looks at several frames",
        "Restore frame by frame instead, with an image network such as SwinIR, model_type SRModel and"
        " PairedImageDataset; `restore run` takes a folder of frames.",
        _names(
            """
            EDVR BasicVSR IconVSR BasicVSRPlusPlus DUF TOFlow SpyNet
            EDVRModel VideoBaseModel VideoRecurrentModel VideoGANModel VideoRecurrentGANModel
            REDSDataset REDSRecurrentDataset Vimeo90KDataset Vimeo90KRecurrentDataset
            VideoTestDataset VideoTestVimeo90KDataset VideoTestDUFDataset VideoRecurrentTestDataset
            pairedvideodataset singlevideodataset tscunet temporalspan temporalspanv2 tfdat
            """
        ),
        _names("fix_flow flow_lr_mul lr_flow tsa_iter dcn_lr_mul flip_seq center_frame_only"),
    ),
    Family(
        "it does not synthesise images",
        "The nearest adversarial training is model_type ESRGANModel with network_g RRDBNet and network_d"
        " UNetDiscriminatorSN.",
        _names(
            """
            StyleGAN2Generator StyleGAN2Discriminator StyleGAN2GeneratorBilinear StyleGAN2DiscriminatorBilinear
            StyleGAN2Model FFHQDataset
            """
        ),
        _names(
            """
            r1_reg_weight path_reg_weight path_batch_shrink mixing_prob net_g_reg_every net_d_reg_every
            num_val_samples
            """
        ),
    ),
    Family(
        "it has nothing made for faces",
        "The nearest is blind restoration: model_type RealESRGANModel with network_g RRDBNet and network_d"
        " UNetDiscriminatorSN.",
        _names("DFDNet HiFaceGAN HiFaceGANDiscriminator SPADEGenerator HiFaceGANModel GANFeatLoss"),
    ),
    Family(
        "it has no such network for mobile devices",
        "The nearest small convolutional networks are RepConvSR and SRVGGNetCompact.",
        _names("ECBSR"),
    ),
    Family(
        "it has no such network for denoising",
        "The nearest denoisers are SwinIR with upsampler '' and Uformer.",
        _names("RIDNet"),
    ),
    Family(
        "it restores no stereo pairs",
        "Restore both views on their own instead, with SwinIR and PairedImageDataset.",
        _names(
            "NAFSSR SwinFIRSSR SwinFIRSSRModel PairedStereoImageDataset StereoSRImageDataset calculate_skimage_ssim"
        ),
    ),
    Family(
        "it comes from spandrel, which is not installed",
        "pip install 'restore-toolkit[foreign]'",
        _names(
            """
            ATD CIDNet CRAFT DAT DCTLSA DITN_Real DRCT DRUNet DnCNN FBCNN FDAT FFTformer GRL HAT KBNet_l KBNet_s
            MixDehazeNet MoESR MoSR NAFNet NAFNetLocal OmniSR PLKSR RGT RealPLKSR RetinexFormer SAFMN SAFMN_BCIE SCUNet
            SPAN SeemoRe SwiftSRGAN Swin2SR UpCunet2x UpCunet2x_fast UpCunet3x UpCunet4x
            """
        ),
    ),
    Family(
        "it comes from spandrel_extra_arches, which is not installed and has parts that are for research only",
        "pip install 'restore-toolkit[foreign-extra]'",
        _names("Restormer SRFormer MPRNet MIRNet_v2 M3SNet M3SNetLocal"),
    ),
    Family(
        "this network is not here",
        "NAFNet and NAFNetLocal are the nearest (pip install 'restore-toolkit[foreign]'); for denoising and deblurring"
        " also Uformer.",
        _names("Baseline BaselineLocal"),
    ),
    Family(
        "this transformer or state-space network is not here",
        "The nearest is SwinIR; HAT, DAT, ATD and RGT come with pip install 'restore-toolkit[foreign]'.",
        _names(
            """
            ART ARTUNet CAT CAT_Unet HATFIR HiT_SIR HiT_SNG MambaIR MambaIRUNet MambaIRv2 MambaIRv2Light
            SwinFIR ELAN hit_sir hit_sng elan elan_light emt dwt dwt_s lmlt_base lmlt_large lmlt_tiny
            rhat_l rhat_m rhat_s docres_base docres_large docres_discriminator scunet_aaf6aa
            """
        ),
    ),
    Family(
        "this convolutional network is not here",
        "The nearest are EDSR, RCAN and, with pip install 'restore-toolkit[foreign]', PLKSR, SPAN and SAFMN.",
        _names(
            """
            ESC ESCFP ESCReal escrealm escrealm_xl sebica eimn_l eimn_a flexnet metaflexnet cascadedgaze mosrv2
            artcnn artcnn_r16f96 artcnn_r8f64 artcnn_r8f48 artcnn_r5f48 artcnn_r8f24 artcnn_r3f24 dis_balanced dis_fast
            gaterv3_s gaterv3_r lkfmixer_t lkfmixer_b lkfmixer_l rcan_unshuffle rcan_l rtmosr rtmosr_l rtmosr_ul
            spanplus spanplus_s spanplus_st spanplus_sts
            """
        ),
    ),
    Family(
        "it restores no dual-pixel pairs",
        "Use the single-image task: type Dataset_PairedImage with dataroot_lq.",
        _names("Dataset_DefocusDeblur_DualPixel_16bit"),
    ),
)


def family_of(component: str) -> Family | None:
    """The family that a component belongs to, if it is a known one that is not here."""
    return next((family for family in _FAMILIES if component in family.components), None)


def family_of_key(key: str) -> Family | None:
    """The family whose components alone read an option key."""
    return next((family for family in _FAMILIES if key in family.keys), None)
