# What is refused before anything is made.

mock_provider "google" {
  source = "./tests/mocks"
}

variables {
  project_id      = "demo-promptreel"
  billing_account = "012345-6789AB-CDEF01"
  images = {
    api           = "docker.pkg.dev/demo/api@sha256:1111111111111111111111111111111111111111111111111111111111111111"
    gpu_worker    = "docker.pkg.dev/demo/gpu-worker@sha256:2222222222222222222222222222222222222222222222222222222222222222"
    remote_worker = "docker.pkg.dev/demo/remote-worker@sha256:3333333333333333333333333333333333333333333333333333333333333333"
  }
}

run "tags_instead_of_digests" {
  command = plan
  variables {
    images = { api = "docker.pkg.dev/demo/api:latest", gpu_worker = "docker.pkg.dev/demo/gpu-worker:latest" }
  }
  expect_failures = [var.images]
}

run "gpus_without_end" {
  command = plan
  variables {
    gpu_worker = { max_instances = 10000 }
  }
  expect_failures = [var.gpu_worker]
}

run "more_gpus_always_than_ever" {
  command = plan
  variables {
    gpu_worker = { min_instances = 3, max_instances = 2 }
  }
  expect_failures = [var.gpu_worker]
}

run "a_machine_without_l4" {
  command = plan
  variables {
    gpu_worker = { cpu = "2", memory = "8Gi" }
  }
  expect_failures = [var.gpu_worker]
}

run "apis_without_end" {
  command = plan
  variables {
    api = { max_instances = 1000 }
  }
  expect_failures = [var.api]
}

run "dead_letters_too_soon" {
  command = plan
  variables {
    redelivery = { max_deliveries = 5 }
  }
  expect_failures = [var.redelivery]
}

run "files_that_outlive_their_jobs" {
  command = plan
  variables {
    retention = { artifact_days = 40 }
  }
  expect_failures = [var.retention]
}

run "a_name_too_long_for_accounts" {
  command = plan
  variables {
    name = "a-very-long-name-indeed"
  }
  expect_failures = [var.name]
}

run "a_zone_for_a_region" {
  command = plan
  variables {
    region = "us-central1-a"
  }
  expect_failures = [var.region]
}

run "no_billing_account" {
  command = plan
  variables {
    billing_account = "mine"
  }
  expect_failures = [var.billing_account]
}

run "no_budget" {
  command = plan
  variables {
    monthly_budget = 0
  }
  expect_failures = [var.monthly_budget]
}

run "a_star_for_an_origin" {
  command = plan
  variables {
    artifact_cors_origins = ["*"]
  }
  expect_failures = [var.artifact_cors_origins]
}

run "no_domain" {
  command = plan
  variables {
    load_balancer = { domain = "https://video.example.com" }
  }
  expect_failures = [var.load_balancer]
}

run "no_address" {
  command = plan
  variables {
    alert_emails = ["ada"]
  }
  expect_failures = [var.alert_emails]
}

run "no_couriers" {
  command = plan
  variables {
    courier = { max_instances = 0 }
  }
  expect_failures = [var.courier]
}

run "an_empty_pool" {
  command = plan
  variables {
    gpu_worker_pool = { instances = 0 }
  }
  expect_failures = [var.gpu_worker_pool]
}

run "remote_workers_without_end" {
  command = plan
  variables {
    remote_worker = { max_instances = 1000 }
  }
  expect_failures = [var.remote_worker]
}
