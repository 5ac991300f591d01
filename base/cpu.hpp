// What this machine's CPU prefers, for parties that must agree on layouts without linking oneDNN.
#pragma once

#include "base/tensor_type.hpp"

namespace opsplit {

// The layout (blocked or nhwc) in which images, rank 4 and float32, are best handed from convolution to convolution.
// Measured on ResNet-50's and ShuffleNet's convolutions with oneDNN 2.6 and 3.7: with AVX-512 nhwc is
// as fast as nChw16c or faster (and pads nothing, whatever the number of channels or groups); with
// AVX2 only nChw8c has direct algorithms in both; without either nothing beats row-major.
Layout preferred_blocked_layout();

}  // namespace opsplit
