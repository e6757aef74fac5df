# The files that services start with. tests/unit/test_terraform.py loads the same ones with the project's own code.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project_id      = "demo-promptreel"
  billing_account = "012345-6789AB-CDEF01"
  images = {
    api           = "us-central1-docker.pkg.dev/demo-promptreel/promptreel/api@sha256:1111111111111111111111111111111111111111111111111111111111111111"
    gpu_worker    = "us-central1-docker.pkg.dev/demo-promptreel/promptreel/gpu-worker@sha256:2222222222222222222222222222222222222222222222222222222222222222"
    remote_worker = "us-central1-docker.pkg.dev/demo-promptreel/promptreel/remote-worker@sha256:3333333333333333333333333333333333333333333333333333333333333333"
  }
}

run "with_everything" {
  command = apply

  variables {
    remote_worker   = {}
    image_providers = { replicate = true, gemini = true }
    configuration = {
      limits = { queued_per_owner = 50 }
      images = { stale_seconds = 7, replicate = { request_seconds = 20 } }
      worker = { max_attempts = 2 }
      plans = {
        free = { images_per_month = 5, image_models = ["google/nano-banana", "gemini-2.5-flash-image"] }
      }
      # What Terraform knows wins.
      gcp     = { project = "somebody-elses" }
      profile = "local"
    }
  }

  assert {
    condition     = yamldecode(google_secret_manager_secret_version.configuration["api"].secret_data) == yamldecode(file("tests/configuration/api.yaml"))
    error_message = nonsensitive(google_secret_manager_secret_version.configuration["api"].secret_data)
  }

  assert {
    condition     = yamldecode(google_secret_manager_secret_version.configuration["courier"].secret_data) == yamldecode(file("tests/configuration/courier.yaml"))
    error_message = nonsensitive(google_secret_manager_secret_version.configuration["courier"].secret_data)
  }

  assert {
    condition     = yamldecode(google_secret_manager_secret_version.configuration["gpu-worker"].secret_data) == yamldecode(file("tests/configuration/gpu-worker.yaml"))
    error_message = nonsensitive(google_secret_manager_secret_version.configuration["gpu-worker"].secret_data)
  }

  assert {
    condition     = yamldecode(google_secret_manager_secret_version.configuration["remote-worker"].secret_data) == yamldecode(file("tests/configuration/remote-worker.yaml"))
    error_message = nonsensitive(google_secret_manager_secret_version.configuration["remote-worker"].secret_data)
  }
}

run "by_default" {
  command = apply

  assert {
    condition     = yamldecode(google_secret_manager_secret_version.configuration["api"].secret_data) == yamldecode(file("tests/configuration/api-by-default.yaml"))
    error_message = nonsensitive(google_secret_manager_secret_version.configuration["api"].secret_data)
  }

  assert {
    condition     = keys(google_secret_manager_secret_version.configuration) == ["api", "courier", "gpu-worker"]
    error_message = "Who is not there needs no configuration."
  }
}

run "queues_as_long_as_the_gpus_are_many" {
  command = apply

  variables {
    gpu_worker_pool = { instances = 4 }
    configuration   = { limits = { queued_per_owner = null } }
  }

  assert {
    condition     = yamldecode(google_secret_manager_secret_version.configuration["api"].secret_data).limits == { queued_per_model = 1000, queued_per_owner = null }
    error_message = "A pool of four has four times the queue; who wants none for an owner says so."
  }
}
