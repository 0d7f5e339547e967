"""Images: files, pixels and tensors; colour; resizing as MATLAB does it; padding."""

from restore.images.colour import grey_to_rgb, rgb_to_grey, rgb_to_y, rgb_to_ycbcr, y_to_rgb, ycbcr_to_rgb
from restore.images.decode import decode_image, read_size
from restore.images.encode import IMAGE_SUFFIXES, encode_image
from restore.images.image import Image, convert_depth, to_pixels, to_tensor
from restore.images.io import list_images, read_image, write_image
