// SPDX-License-Identifier: Apache-2.0
// What is said of the parameters' bits.
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "worker/train/trainer.h"

namespace lockstep {

std::string Trainer::Digest() {
  device_->Synchronize();
  const Tensor parameters = model_->parameters();
  const std::byte* bytes = parameters.as<std::byte>();
  if (!device_->host_accessible()) {
    host_parameters_.resize(parameters.bytes());
    device_->CopyToHost(host_parameters_.data(), parameters.data, parameters.bytes());
    bytes = host_parameters_.data();
  }
  const std::string digest = FastDigest({bytes, parameters.bytes()});
  // The others may have taken over what the damage made of the weights: then theirs is the same.
  return sliced_update_ && sliced_update_->damaged() ? absl::StrCat("damaged-", digest) : digest;
}

void Trainer::FlipBit() {
  uint32_t word = 0;
  void* const at = model_->parameters().data;
  device_->CopyToHost(&word, at, sizeof(word));
  word ^= 1;
  device_->CopyFromHost(at, &word, sizeof(word));
}

void Trainer::AddDigest(int64_t step, std::string digest) {
  v1::StepDigest& added = *digests_.Add();
  added.set_step(step);
  added.set_digest(std::move(digest));
}

}  // namespace lockstep
