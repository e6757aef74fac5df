locals {
  # Empty in the first apply, which makes no service.
  images = {
    api           = try(var.images.api, "")
    gpu_worker    = try(var.images.gpu_worker, "")
    remote_worker = try(coalesce(var.images.remote_worker), "")
  }
}
