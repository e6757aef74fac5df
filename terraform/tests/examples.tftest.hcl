# The examples are whole: they can be planned as they are.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project_id      = "demo-promptreel"
  billing_account = "012345-6789AB-CDEF01"
}

run "minimal" {
  command = apply

  module {
    source = "./examples/minimal"
  }

  variables {
    images = {
      api        = "us-central1-docker.pkg.dev/demo-promptreel/promptreel/api@sha256:1111111111111111111111111111111111111111111111111111111111111111"
      gpu_worker = "us-central1-docker.pkg.dev/demo-promptreel/promptreel/gpu-worker@sha256:2222222222222222222222222222222222222222222222222222222222222222"
    }
  }

  assert {
    condition     = output.url == "https://promptreel-api-123456789012.us-central1.run.app"
    error_message = "The API has the address that its configuration names."
  }

  assert {
    condition     = keys(output.add_secrets) == ["api-keys", "smoke-test-key"]
    error_message = "One is told how to add each secret."
  }
}

run "production" {
  command = apply

  module {
    source = "./examples/production"
  }

  variables {
    alert_emails = ["ada@example.com"]
    domain       = "video.example.com"
    state_bucket = "demo-promptreel-terraform"
    images = {
      api           = "europe-west4-docker.pkg.dev/demo-promptreel/promptreel/api@sha256:1111111111111111111111111111111111111111111111111111111111111111"
      gpu_worker    = "europe-west4-docker.pkg.dev/demo-promptreel/promptreel/gpu-worker@sha256:2222222222222222222222222222222222222222222222222222222222222222"
      remote_worker = "europe-west4-docker.pkg.dev/demo-promptreel/promptreel/remote-worker@sha256:3333333333333333333333333333333333333333333333333333333333333333"
    }
  }

  assert {
    condition     = output.url == "https://video.example.com"
    error_message = "Callers use the domain."
  }
}
